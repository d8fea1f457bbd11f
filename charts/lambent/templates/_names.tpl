{{/* Names, labels and images that templates share. Names leave room for what Kubernetes adds: 63 characters are a label's most. */}}

{{- define "lambent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What everything's name begins with: at most 32 characters, so that "-worker-POOL-xxxxx" fits behind it. A longer one
     keeps a part of its digest: two that differ late stay two. */}}
{{- define "lambent.fullname" -}}
{{- $name := default (include "lambent.defaultFullname" .) .Values.fullnameOverride }}
{{- if gt (len $name) 32 }}
{{- printf "%s-%s" ($name | trunc 25 | trimSuffix "-") ($name | sha256sum | trunc 6) }}
{{- else }}
{{- $name | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "lambent.defaultFullname" -}}
{{- $name := include "lambent.name" . }}
{{- if contains $name .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name $name }}{{ end }}
{{- end }}

{{/* Of one component: dict "root" $ "component" "frontend" */}}
{{- define "lambent.componentName" -}}
{{- printf "%s-%s" (include "lambent.fullname" .root) .component }}
{{- end }}

{{- define "lambent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lambent.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "lambent.labels" -}}
{{ include "lambent.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lambent
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* name, namespace, labels and annotations of an object: dict "root" $ "component" "frontend" "name" "..." "labels" (dict ...)
     "annotations" (dict ...) "cluster" true where it is of no namespace */}}
{{- define "lambent.metadata" -}}
name: {{ .name | default (include "lambent.componentName" .) }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "lambent.labels" (omit . "labels") | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The control plane's image as one component has it, all of it: dict "root" $ "values" .Values.frontend */}}
{{- define "lambent.controlImage" -}}
{{- toYaml (mustMergeOverwrite (mustDeepCopy .root.Values.image) (mustDeepCopy (.values.image | default dict))) }}
{{- end }}

{{/* dict "root" $ "image" .Values.image: the digest wins over the tag */}}
{{- define "lambent.image" -}}
{{- $registry := .root.Values.global.image.registry | default .image.registry }}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") }}
{{- if .image.digest }}{{ printf "%s@%s" $name .image.digest }}
{{- else }}{{ printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* dict "root" $ "image" .Values.image */}}
{{- define "lambent.pullSecrets" -}}
{{- with uniq (concat .root.Values.global.imagePullSecrets .image.pullSecrets) }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of one component: dict "root" $ "component" "frontend" "values" .Values.frontend */}}
{{- define "lambent.serviceAccountName" -}}
{{- if .values.serviceAccount.create }}{{ .values.serviceAccount.name | default (include "lambent.componentName" .) }}
{{- else }}{{ .values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "lambent.keysSecret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "lambent.fullname" .)) }}
{{- end }}

{{- define "lambent.credentialsSecret" -}}
{{ .Values.credentials.existingSecret | default (printf "%s-credentials" (include "lambent.fullname" .)) }}
{{- end }}

{{- define "lambent.tlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "lambent.fullname" .)) }}
{{- end }}

{{- define "lambent.redisSecret" -}}
{{- if .Values.redis.enabled }}{{ .Values.redis.existingSecret | default (printf "%s-redis" (include "lambent.fullname" .)) }}
{{- else }}{{ .Values.externalRedis.existingSecret }}{{ end }}
{{- end }}

{{/* How long a pod may take to end: what runs may end first. */}}
{{- define "lambent.graceSeconds" -}}
{{ add (int .Values.drainSeconds) (int .Values.leaveSeconds) 15 }}
{{- end }}
