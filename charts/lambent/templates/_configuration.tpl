{{/* The settings of every process by group; what differs between them is in their environment. What .Values.settings says
     wins. */}}
{{- define "lambent.settings" -}}
{{- $name := include "lambent.fullname" . }}
{{- $cluster := dict
  "data" "/var/lib/lambent"
  "http" "0.0.0.0:9001"
  "grpc" "0.0.0.0:9002"
  "public_url" (include "lambent.publicUrl" .)
  "account" .Values.account
  "region" .Values.region
  "schedulers" (int .Values.scheduler.replicaCount)
  "regions" (join "," .Values.regions)
  "runtimes" (join "," .Values.runtimes)
}}
{{- if .Values.accessKeys.existingSecret }}
{{- $_ := set $cluster "access_keys" (printf "/etc/lambent-access-keys/%s" .Values.accessKeys.existingSecretKey) }}
{{- end }}
{{- $mounted := list }}
{{- range $number, $each := .Values.fileSystems }}{{ $mounted = append $mounted (printf "%s=/mnt/lambent/%d" $each.arn $number) }}{{ end }}
{{- $_ := set $cluster "file_systems" (join "," $mounted) }}
{{- $settings := dict
  "storage" (dict "code" .Values.storage.code "logs" .Values.storage.logs)
  "timing" (dict "drain_seconds" (float64 .Values.drainSeconds) "leave_seconds" (float64 .Values.leaveSeconds) "leadership_seconds" (float64 .Values.scheduler.leadershipSeconds))
  "telemetry" (dict "prometheus" "0.0.0.0:9090" "log_level" .Values.logging.level "log_format" .Values.logging.format "otlp_endpoint" .Values.telemetry.otlpEndpoint "sample" (float64 .Values.telemetry.sample))
  "worker" (dict "api_url" (printf "http://%s-frontend.%s:%d" $name .Release.Namespace (int .Values.frontend.service.httpPort)) "network" .Values.workers.network "minimum_isolation" .Values.workers.minimumIsolation)
  "internal" (dict "scheduler" (printf "%s-scheduler:9010" $name) "scheduler_listen" "0.0.0.0:9010" "store" (printf "%s-frontend-internal:9003" $name) "store_listen" "0.0.0.0:9003" "worker" "0.0.0.0:9020" "tls" (ternary "/etc/lambent-tls" "" .Values.tls.enabled))
}}
{{- $_ := set $settings "kubernetes" (dict "election" (eq .Values.scheduler.election "lease") "lease" (printf "%s-scheduler" $name) "pools" "/etc/lambent-pools" "release" $name "owner" (printf "%s-pools" $name)) }}
{{- $networks := dict }}
{{- range $group, $entries := dict "subnets" .Values.vpc.subnets "security_groups" .Values.vpc.securityGroups }}
{{- $pairs := list }}
{{- range $entries }}{{ $pairs = append $pairs (printf "%s=%s" .id .vpc) }}{{ end }}
{{- $_ := set $networks $group (join "," $pairs) }}
{{- end }}
{{- $_ := set $settings "vpc" $networks }}
{{- if .Values.connections.existingSecret }}
{{- $_ := set $settings "queue" (dict "connections" (printf "/etc/lambent-connections/%s" .Values.connections.existingSecretKey)) }}
{{- end }}
{{- toYaml (mustMergeOverwrite (dict "cluster" $cluster) $settings (mustDeepCopy .Values.settings)) }}
{{- end }}

{{/* The same as the file that processes read. Its values are JSON's, which are TOML's too: 60 stays a whole number. */}}
{{- define "lambent.toml" -}}
{{- $settings := include "lambent.settings" . | fromYaml }}
{{- range $name, $value := $settings.cluster }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- range $group, $rows := omit $settings "cluster" }}

[{{ $group }}]
{{- range $name, $value := $rows }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* What of the settings a worker goes by: a change of others leaves its pods as they are. */}}
{{- define "lambent.workerSettings" -}}
{{- $settings := include "lambent.settings" . | fromYaml }}
{{- $cluster := pick $settings.cluster "data" "account" "region" "file_systems" }}
{{- toJson (merge (dict "cluster" $cluster) (omit $settings "kubernetes" "scheduling" "cluster" "vpc")) }}
{{- end }}

{{- define "lambent.publicUrl" -}}
{{- if .Values.publicUrl }}{{ .Values.publicUrl }}
{{- else if and .Values.frontend.ingress.enabled .Values.frontend.ingress.hosts }}
{{- printf "%s://%s" (ternary "https" "http" (gt (len .Values.frontend.ingress.tls) 0)) (first .Values.frontend.ingress.hosts).host }}
{{- else }}{{ printf "http://%s-frontend.%s:%d" (include "lambent.fullname" .) .Release.Namespace (int .Values.frontend.service.httpPort) }}{{ end }}
{{- end }}
