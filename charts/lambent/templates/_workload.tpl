{{/* A Deployment of the control plane. dict "root" $ "component" "frontend" "values" .Values.frontend "ports" (list of
     dicts name, port) "operationsPort" 9090 "masterKey" true "env" (list) "mounts" (list) "volumes" (list)
     "checksums" (dict): annotations of the pods */}}
{{- define "lambent.deployment" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $image := include "lambent.controlImage" . | fromYaml }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "lambent.metadata" . | nindent 2 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ $values.replicaCount }}
  {{- end }}
  revisionHistoryLimit: {{ $root.Values.revisionHistoryLimit }}
  minReadySeconds: {{ $values.minReadySeconds }}
  strategy:
    {{- toYaml $values.updateStrategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "lambent.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "lambent.labels" . | nindent 8 }}
        {{- with merge (dict) $values.podLabels $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "lambent.toml" $root | sha256sum }}
        {{- with .checksums }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $root.Values.secretsRevision }}
        checksum/secret: {{ . | quote }}
        {{- end }}
        {{- with merge (dict) $values.podAnnotations $root.Values.podAnnotations $root.Values.commonAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "lambent.serviceAccountName" . }}
      automountServiceAccountToken: {{ .token | default false }}
      enableServiceLinks: false
      {{- include "lambent.pullSecrets" (dict "root" $root "image" $image) | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "lambent.graceSeconds" $root }}
      {{- with $values.podSecurityContext | default $root.Values.podSecurityContext }}
      securityContext:
        {{- include "lambent.securityContext" (dict "root" $root "context" .) | nindent 8 }}
      {{- end }}
      {{- include "lambent.scheduling" (dict "root" $root "component" .component "values" $values) | nindent 6 }}
      {{- with $values.extraInitContainers }}
      initContainers:
        {{- tpl (toYaml .) $root | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "lambent.image" (dict "root" $root "image" $image) }}
          imagePullPolicy: {{ $image.pullPolicy }}
          args:
            - {{ .component }}
            - --config
            - /etc/lambent/lambent.toml
            {{- range $values.extraArgs }}
            - {{ tpl . $root | quote }}
            {{- end }}
          env:
            # For the command line in this container; the process is told by its arguments.
            - name: LAMBENT_CONFIG
              value: /etc/lambent/lambent.toml
            {{- include "lambent.redisEnv" $root | nindent 12 }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- include "lambent.telemetryEnv" (dict "root" $root "component" .component) | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- tpl (toYaml .) $root | nindent 12 }}
            {{- end }}
          {{- with $values.extraEnvFrom }}
          envFrom:
            {{- tpl (toYaml .) $root | nindent 12 }}
          {{- end }}
          ports:
            {{- range .ports }}
            - name: {{ .name }}
              containerPort: {{ .port }}
            {{- end }}
            - name: operations
              containerPort: {{ .operationsPort }}
          {{- include "lambent.probes" (dict "values" $values) | nindent 10 }}
          {{- with $values.lifecycle }}
          lifecycle:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $values.securityContext | default $root.Values.securityContext }}
          securityContext:
            {{- include "lambent.securityContext" (dict "root" $root "context" .) | nindent 12 }}
          {{- end }}
          volumeMounts:
            {{- include "lambent.mounts" $root | nindent 12 }}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- tpl (toYaml .) $root | nindent 12 }}
            {{- end }}
        {{- with $values.extraContainers }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "lambent.volumes" (dict "root" $root "masterKey" .masterKey) | nindent 8 }}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
{{- end }}

{{/* A security context as values give it; OpenShift chooses users itself. dict "root" $ "context" ... */}}
{{- define "lambent.securityContext" -}}
{{- if .root.Values.openshift.enabled }}
{{- toYaml (omit .context "runAsUser" "runAsGroup" "fsGroup") }}
{{- else }}
{{- toYaml .context }}
{{- end }}
{{- end }}

{{/* Where pods of a component may and should run. dict "root" $ "component" ... "values" ... */}}
{{- define "lambent.scheduling" -}}
{{- $values := .values }}
{{- $root := .root }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $values.tolerations }}
{{- if has .component (list "frontend" "scheduler" "poller") }}
{{- range list "not-ready" "unreachable" }}
{{- $tolerations = append $tolerations (dict "key" (printf "node.kubernetes.io/%s" .) "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" (int $root.Values.nodeLossSeconds)) }}
{{- end }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.affinity }}
affinity:
  {{- toYaml $values.affinity | nindent 2 }}
{{- else if ne $values.podAntiAffinityPreset "none" }}
affinity:
  podAntiAffinity:
    {{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "lambent.selectorLabels" . | fromYaml)) }}
    {{- if eq $values.podAntiAffinityPreset "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      {{- list $term | toYaml | nindent 6 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      {{- list (dict "weight" 100 "podAffinityTerm" $term) | toYaml | nindent 6 }}
    {{- end }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  -
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "lambent.selectorLabels" $ | nindent 8 }}
    {{- end }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "lambent.probes" -}}
{{- range $name := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with index $.values $name }}
{{ $name }}:
  httpGet:
    path: {{ ternary "/readyz" "/livez" (eq $name "readinessProbe") }}
    port: operations
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "lambent.mounts" -}}
- name: configuration
  mountPath: /etc/lambent
  readOnly: true
- name: data
  mountPath: /var/lib/lambent
- name: keys
  mountPath: /var/lib/lambent/keys
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /etc/lambent-tls
  readOnly: true
{{- end }}
{{- if .Values.connections.existingSecret }}
- name: connections
  mountPath: /etc/lambent-connections
  readOnly: true
{{- end }}
{{- end }}

{{/* dict "root" $ "masterKey" true: whether the pod may open sealed variables of functions */}}
{{- define "lambent.volumes" -}}
- name: configuration
  configMap:
    name: {{ include "lambent.fullname" .root }}
- name: data
  emptyDir: {}
- name: tmp
  emptyDir: {}
- name: keys
  secret:
    secretName: {{ include "lambent.keysSecret" .root }}
    defaultMode: 0440
    items:
      - key: cluster.key
        path: cluster.key
      {{- if .masterKey }}
      - key: master.key
        path: master.key
      {{- end }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "lambent.tlsSecret" .root }}
    defaultMode: 0440
{{- end }}
{{- with .root.Values.connections.existingSecret }}
- name: connections
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* How the store is reached: LAMBENT_REDIS_URL, with the password from its Secret. */}}
{{- define "lambent.redisEnv" -}}
{{- if .Values.redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "lambent.redisSecret" . }}
      key: {{ .Values.redis.existingSecretKey }}
- name: LAMBENT_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "lambent.fullname" . }}-redis:6379/0
{{- else }}
{{- $external := .Values.externalRedis }}
{{- if and $external.existingSecret $external.existingSecretUrlKey }}
- name: LAMBENT_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $external.existingSecret }}
      key: {{ $external.existingSecretUrlKey }}
{{- else }}
{{- if $external.existingSecret }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $external.existingSecret }}
      key: {{ $external.existingSecretKey }}
{{- end }}
{{- $user := ternary (printf "%s:$(REDIS_PASSWORD)@" $external.username) "" (ne $external.existingSecret "") }}
{{- $hosts := printf "%s:%d" $external.host (int $external.port) }}
{{- $scheme := ternary "rediss" "redis" $external.tls.enabled }}
{{- $master := "" }}
{{- if $external.sentinel.enabled }}
{{- $scheme = printf "%s+sentinel" $scheme }}
{{- $hosts = join "," $external.sentinel.hosts }}
{{- $master = printf "%s/" $external.sentinel.master }}
{{- else if $external.cluster.enabled }}
{{- $scheme = printf "%s+cluster" $scheme }}
{{- $hosts = join "," $external.cluster.hosts }}
{{- end }}
{{- $authority := ternary (printf "?ssl_ca_certs=/etc/lambent-redis-ca/%s" $external.tls.existingSecretKey) "" (and $external.tls.enabled (ne $external.tls.existingSecret "")) }}
- name: LAMBENT_REDIS_URL
  value: {{ printf "%s://%s%s/%s%d%s" $scheme $user $hosts $master (int $external.database) $authority | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "lambent.telemetryEnv" -}}
{{- with .root.Values.telemetry.headersSecret.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.root.Values.telemetry.headersSecret.key }}
{{- end }}
{{- with .root.Values.telemetry.resourceAttributes }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ range $name, $value := . }}{{ $name }}={{ $value }},{{ end }}k8s.namespace.name={{ $.root.Release.Namespace }}
{{- end }}
{{- end }}

{{/* A PodDisruptionBudget, where it can be satisfied: with one replica it would stand against every drain of a node.
     dict "root" $ "component" ... "values" ... */}}
{{- define "lambent.disruptionBudget" -}}
{{- $least := ternary (dig "autoscaling" "minReplicas" 0 .values) .values.replicaCount (dig "autoscaling" "enabled" false .values) }}
{{- if and .values.podDisruptionBudget.enabled (ge (int $least) 2) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "lambent.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "lambent.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "lambent.autoscaler" -}}
{{- if .values.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "lambent.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "lambent.componentName" . }}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    {{- toYaml .values.autoscaling.metrics | nindent 4 }}
  {{- with .values.autoscaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "lambent.serviceAccount" -}}
{{- if .values.serviceAccount.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "lambent.metadata" (merge (dict "name" (include "lambent.serviceAccountName" .) "annotations" .values.serviceAccount.annotations) .) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}
{{- end }}

{{/* The certificate authority of an external store; empty: none is given. */}}
{{- define "lambent.redisAuthority" -}}
{{- if and (not .Values.redis.enabled) .Values.externalRedis.tls.enabled }}{{ .Values.externalRedis.tls.existingSecret }}{{ end }}
{{- end }}

{{- define "lambent.redisAuthorityExtra" -}}
{{- with include "lambent.redisAuthority" . }}
mounts:
  - name: redis-ca
    mountPath: /etc/lambent-redis-ca
    readOnly: true
volumes:
  - name: redis-ca
    secret:
      secretName: {{ . }}
      defaultMode: 0440
{{- else }}
mounts: []
volumes: []
{{- end }}
{{- end }}
