{{/* What pods of workers may do: each profile is a security context of the pod and one of the container. */}}
{{- define "lambent.workerProfiles" -}}
userns:
  pod:
    hostUsers: false
  container:
    procMount: Unmasked
    runAsUser: 0
    runAsNonRoot: false
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: true
    seccompProfile:
      type: Unconfined
    capabilities:
      drop: [ALL]
      # Over the pod's own user namespace only: no right over the node comes with any of them.
      add: [SYS_ADMIN, SYS_CHROOT, SETUID, SETGID, SETPCAP, CHOWN, DAC_OVERRIDE, FOWNER, KILL, NET_ADMIN, MKNOD]
privileged:
  pod: {}
  container:
    privileged: true
    runAsUser: 0
    runAsNonRoot: false
    readOnlyRootFilesystem: true
restricted:
  pod: {}
  podSecurityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile:
      type: RuntimeDefault
  container:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
{{- end }}

{{/* A pool with what it leaves out taken from .Values.workers: dict "root" $ "pool" {...} */}}
{{- define "lambent.pool" -}}
{{- $defaults := omit .root.Values.workers "pools" "scaling" "network" "unreachable" "minimumIsolation" "serviceAccount" "podDisruptionBudget" "networkPolicy" "image" "prePull" }}
{{- toYaml (mustMergeOverwrite (mustDeepCopy $defaults) (mustDeepCopy .pool)) }}
{{- end }}

{{/* The image of a pool, all of it: dict "root" $ "pool" {...} */}}
{{- define "lambent.workerImage" -}}
{{- toYaml (mustMergeOverwrite (mustDeepCopy .root.Values.workers.image) (mustDeepCopy (.pool.image | default dict))) }}
{{- end }}

{{/* The whole pod template of one pool: dict "root" $ "pool" (a pool, complete) */}}
{{- define "lambent.workerTemplate" -}}
{{- $root := .root }}
{{- $pool := .pool }}
{{- $workers := $root.Values.workers }}
{{- $profile := get (include "lambent.workerProfiles" $root | fromYaml) $pool.isolation }}
{{- $podContext := merge (dict) $pool.podSecurityContext ($profile.podSecurityContext | default dict) }}
{{- $image := include "lambent.workerImage" . | fromYaml }}
{{- $labels := dict "root" $root "component" "worker" }}
metadata:
  {{- /* No version of the chart here: pods whose template stays as it is are kept through an upgrade, and warm. */}}
  labels:
    {{- include "lambent.selectorLabels" $labels | nindent 4 }}
    app.kubernetes.io/part-of: lambent
    app.kubernetes.io/managed-by: {{ $root.Release.Service }}
    {{- with $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    lambent.dev/pool: {{ $pool.name }}
    {{- with merge (dict) $pool.podLabels $root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "lambent.workerSettings" $root | sha256sum }}
    # A worker that is evicted drains, and another is made: nodes need not be kept for it.
    {{- with merge (dict) $pool.podAnnotations $root.Values.podAnnotations $root.Values.commonAnnotations (dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "true") }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "lambent.serviceAccountName" (dict "root" $root "component" "worker" "values" $workers) }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "lambent.pullSecrets" (dict "root" $root "image" $image) | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "lambent.graceSeconds" $root }}
  {{- with $profile.pod }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $podContext }}
  securityContext:
    {{- include "lambent.securityContext" (dict "root" $root "context" .) | nindent 4 }}
  {{- end }}
  {{- include "lambent.scheduling" (dict "root" $root "component" "worker" "values" $pool) | nindent 2 }}
  {{- with $pool.extraInitContainers }}
  initContainers:
    {{- tpl (toYaml .) $root | nindent 4 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "lambent.image" (dict "root" $root "image" $image) }}
      imagePullPolicy: {{ $image.pullPolicy }}
      args:
        - worker
        - --config
        - /etc/lambent/lambent.toml
        {{- range $pool.extraArgs }}
        - {{ tpl . $root | quote }}
        {{- end }}
      env:
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: LAMBENT_INTERNAL_WORKER_ADVERTISE
          value: $(POD_IP):9020
        - name: HOST_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        # The node, whose kubelet a network policy may leave within reach, and the cluster's API.
        - name: LAMBENT_WORKER_UNREACHABLE
          value: {{ join "," (concat $workers.unreachable (list "$(HOST_IP)" "$(KUBERNETES_SERVICE_HOST)")) | quote }}
        - name: LAMBENT_INTERNAL_WORKER_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: LAMBENT_INTERNAL_WORKER_POOL
          value: {{ $pool.name }}
        - name: LAMBENT_WORKER_MEMORY_MB
          value: {{ $pool.memoryMb | quote }}
        - name: LAMBENT_WORKER_ENVIRONMENTS
          value: {{ $pool.environments | quote }}
        {{- with $pool.extraEnv }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
      {{- with $pool.extraEnvFrom }}
      envFrom:
        {{- tpl (toYaml .) $root | nindent 8 }}
      {{- end }}
      ports:
        - name: worker
          containerPort: 9020
        - name: operations
          containerPort: 9092
      {{- include "lambent.probes" (dict "values" $pool) | nindent 6 }}
      {{- with $pool.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml $pool.resources | nindent 8 }}
      securityContext:
        {{- toYaml (mustMergeOverwrite (mustDeepCopy $profile.container) (mustDeepCopy $pool.securityContext)) | nindent 8 }}
      volumeMounts:
        {{- include "lambent.mounts" $root | nindent 8 }}
        {{- range $number, $each := $root.Values.fileSystems }}
        - name: file-system-{{ $number }}
          mountPath: /mnt/lambent/{{ $number }}
          {{- with $each.subPath }}
          subPath: {{ . }}
          {{- end }}
        {{- end }}
        {{- with $pool.extraVolumeMounts }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
    {{- with $pool.extraContainers }}
    {{- tpl (toYaml .) $root | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "lambent.volumes" (dict "root" $root) | nindent 4 }}
    {{- range $number, $each := $root.Values.fileSystems }}
    - name: file-system-{{ $number }}
      persistentVolumeClaim:
        claimName: {{ $each.claim }}
    {{- end }}
    {{- with $pool.extraVolumes }}
    {{- tpl (toYaml .) $root | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Pools as the scheduler reads them: one file each. */}}
{{- define "lambent.pools" -}}
{{- range .Values.workers.pools }}
{{- $pool := include "lambent.pool" (dict "root" $ "pool" .) | fromYaml }}
{{- $template := ternary dict (include "lambent.workerTemplate" (dict "root" $ "pool" $pool) | fromYaml) (eq $.Values.workers.scaling "fixed") }}
{{- $rule := merge (dict) ($pool.rule | default dict) (dict "architectures" list "runtimes" list "subnets" list "securityGroups" list "accounts" list "functions" list) }}
{{ .name }}.json: |
  {{- dict "name" $pool.name "min" $pool.min "max" $pool.max "headroomMb" $pool.headroomMb "scaleToZero" $pool.scaleToZero "idleSeconds" $pool.idleSeconds "memoryMb" $pool.memoryMb "environments" $pool.environments "rule" $rule "template" $template | toPrettyJson | nindent 2 }}
{{- end }}
{{- end }}
