{{/* What cannot be, said before anything is made. */}}
{{- define "lambent.validate" -}}
{{- $problems := list }}
{{- range $key, $now := .Files.Get "files/moved.yaml" | fromYaml }}
{{- $inner := $.Values }}
{{- range initial (splitList "." $key) }}{{ $inner = get $inner . }}{{ end }}
{{- if hasKey $inner (last (splitList "." $key)) }}
{{- $problems = append $problems (printf "%s is no value of this chart: %s" $key $now) }}
{{- end }}
{{- end }}
{{- $external := .Values.externalRedis }}
{{- $elsewhere := or $external.host $external.existingSecretUrlKey $external.sentinel.enabled $external.cluster.enabled }}
{{- if and .Values.redis.enabled $elsewhere }}
{{- $problems = append $problems "redis.enabled and externalRedis are both given: set redis.enabled=false to use the external one" }}
{{- end }}
{{- if not (or .Values.redis.enabled $elsewhere) }}
{{- $problems = append $problems "no store: set redis.enabled=true, or give externalRedis.host" }}
{{- end }}
{{- if and .Values.externalRedis.existingSecretUrlKey (not .Values.externalRedis.existingSecret) }}
{{- $problems = append $problems "externalRedis.existingSecretUrlKey is a key of externalRedis.existingSecret, which is missing" }}
{{- end }}
{{- if and .Values.externalRedis.sentinel.enabled (not .Values.externalRedis.sentinel.hosts) }}
{{- $problems = append $problems "externalRedis.sentinel.enabled needs externalRedis.sentinel.hosts" }}
{{- end }}
{{- if and $external.cluster.enabled (not $external.cluster.hosts) }}
{{- $problems = append $problems "externalRedis.cluster.enabled needs externalRedis.cluster.hosts" }}
{{- end }}
{{- if and $external.cluster.enabled $external.sentinel.enabled }}
{{- $problems = append $problems "externalRedis.sentinel and externalRedis.cluster are both enabled: choose one" }}
{{- end }}
{{- if and $external.cluster.enabled (ne (int $external.database) 0) }}
{{- $problems = append $problems "externalRedis.database must be 0: a Redis Cluster has no other" }}
{{- end }}
{{- if and .Values.tls.existingSecret .Values.tls.certManager.enabled }}
{{- $problems = append $problems "tls.existingSecret and tls.certManager.enabled are both given: choose one" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef) }}
{{- $problems = append $problems "tls.certManager.enabled needs tls.certManager.issuerRef" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.enabled) }}
{{- $problems = append $problems "tls.certManager.enabled does nothing without tls.enabled=true" }}
{{- end }}
{{- if and (not .Values.rbac.create) (or (eq .Values.scheduler.election "lease") (eq .Values.workers.scaling "scheduler")) (not .Values.scheduler.serviceAccount.name) }}
{{- $problems = append $problems "rbac.create=false: the scheduler needs rights over pods and leases; name an account that has them in scheduler.serviceAccount.name, or set scheduler.election=redis and workers.scaling=fixed" }}
{{- end }}
{{- range $kind := list "code" "logs" }}
{{- if and (eq (index $.Values.storage $kind) "directory") (not $.Values.frontend.extraVolumes) (or $.Values.frontend.autoscaling.enabled (gt (int $.Values.frontend.replicaCount) 1)) }}
{{- $problems = append $problems (printf "storage.%s=directory needs a volume that all frontends share: mount one in /var/lib/lambent/%s by frontend.extraVolumes and frontend.extraVolumeMounts" $kind $kind) }}
{{- end }}
{{- end }}
{{- if and .Values.regions (not (has .Values.region .Values.regions)) }}
{{- $problems = append $problems (printf "region=%s is none of regions, which alone are served" .Values.region) }}
{{- end }}
{{- $served := dict "subnets" list "securityGroups" list }}
{{- range $kind, $ids := $served }}
{{- $known := list }}
{{- range index $.Values.vpc $kind }}
{{- if has .id $known }}{{ $problems = append $problems (printf "vpc.%s names %s twice" $kind .id) }}{{ end }}
{{- $known = append $known .id }}
{{- end }}
{{- range $pool := $.Values.workers.pools }}
{{- range index ($pool.rule | default dict) $kind }}
{{- $ids = append $ids . }}
{{- if not (has . $known) }}{{ $problems = append $problems (printf "pool %s: %s is not in vpc.%s" $pool.name . $kind) }}{{ end }}
{{- end }}
{{- end }}
{{- range $known }}
{{- if and (eq $kind "subnets") (eq $.Values.workers.scaling "scheduler") (not (has . $ids)) }}
{{- $problems = append $problems (printf "vpc.subnets: no pool's rule names %s, so functions in it would run nowhere" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- $names := list }}
{{- range .Values.workers.pools }}
{{- if has .name $names }}{{ $problems = append $problems (printf "two pools are called %s" .name) }}{{ end }}
{{- $names = append $names .name }}
{{- $pool := include "lambent.pool" (dict "root" $ "pool" .) | fromYaml }}
{{- if gt (int $pool.min) (int $pool.max) }}
{{- $problems = append $problems (printf "pool %s: min (%d) is more than max (%d)" .name (int $pool.min) (int $pool.max)) }}
{{- end }}
{{- $minimum := $.Values.workers.minimumIsolation }}
{{- if and $.Values.openshift.enabled (eq $pool.isolation "userns") }}
{{- $problems = append $problems (printf "pool %s: isolation=userns wants a user that openshift.enabled leaves to the cluster; set workers.isolation=restricted" .name) }}
{{- end }}
{{- if and (eq $pool.isolation "restricted") (has $minimum (list "user-namespace" "namespaces")) }}
{{- $problems = append $problems (printf "pool %s: isolation=restricted gives landlock at best, and workers.minimumIsolation is %s" .name $minimum) }}
{{- end }}
{{- end }}
{{- range $component := list "frontend" "poller" }}
{{- $scaling := (index $.Values $component).autoscaling }}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) }}
{{- $problems = append $problems (printf "%s.autoscaling: minReplicas is more than maxReplicas" $component) }}
{{- end }}
{{- end }}
{{- if and .Values.frontend.ingress.enabled (not .Values.frontend.ingress.hosts) }}
{{- $problems = append $problems "frontend.ingress.enabled needs frontend.ingress.hosts" }}
{{- end }}
{{- range $route := list "httpRoute" "grpcRoute" }}
{{- if and (index $.Values.frontend $route).enabled (not (index $.Values.frontend $route).parentRefs) }}
{{- $problems = append $problems (printf "frontend.%s.enabled needs frontend.%s.parentRefs" $route $route) }}
{{- end }}
{{- end }}
{{- if and .Release.IsInstall (eq .Release.Namespace "kube-system") }}
{{- $problems = append $problems "kube-system is no place for this: choose a namespace of its own" }}
{{- end }}
{{- with $problems }}
{{- fail (printf "\n\nlambent cannot be installed so:\n  - %s\n" (join "\n  - " .)) }}
{{- end }}
{{- end }}
