{{/* What head and workers have in common. */}}

{{- define "sentinel.podLabels" -}}
{{ include "sentinel.selector" . }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "sentinel.environment" -}}
{{- range $name, $value := .Files.Get "files/environment.yaml" | fromYaml }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
- {name: RAY_SERVE_HAPROXY_NBTHREAD, value: {{ max 1 (min 4 (div (int .Values.workers.cpus) 2)) | quote }}}
# At most 64 MiB of log a process: a pod's scratch is not endless.
- {name: RAY_ROTATION_MAX_BYTES, value: "16777216"}
- {name: RAY_ROTATION_BACKUP_COUNT, value: "3"}
{{- if .Values.redis.gcs.enabled }}
# How long Serve waits for a head that is away.
- {name: RAY_SERVE_KV_TIMEOUT_S, value: "5"}
{{- end }}
{{- end }}

{{- define "sentinel.environmentFrom" -}}
{{- range .Values.environmentSecrets }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "sentinel.mounts" -}}
- {name: scratch, mountPath: /tmp}
{{- if .Values.api.keysSecret }}
- {name: api-keys, mountPath: /etc/sentinel/keys, readOnly: true}
{{- end }}
{{- if .Values.redis.profiles.enabled }}
- {name: redis, mountPath: /etc/sentinel/redis, readOnly: true}
{{- end }}
{{- if and .Values.ingest.enabled .Values.ingest.configSecret }}
- {name: kafka, mountPath: /etc/sentinel/kafka, readOnly: true}
{{- end }}
{{- end }}

{{- define "sentinel.volumes" -}}
# Ray's session, its logs among them, and HAProxy's folder.
- {name: scratch, emptyDir: {sizeLimit: 4Gi}}
{{- with .Values.api.keysSecret }}
- {name: api-keys, secret: {secretName: {{ . }}, defaultMode: 288}}
{{- end }}
{{- if .Values.redis.profiles.enabled }}
{{- with .Values.redis.passwordSecret }}
- name: redis
  secret:
    secretName: {{ .name }}
    defaultMode: 288   # 0440
    items: [{key: {{ .key }}, path: password}]
{{- end }}
{{- end }}
{{- if and .Values.ingest.enabled .Values.ingest.configSecret }}
- {name: kafka, secret: {secretName: {{ .Values.ingest.configSecret }}, defaultMode: 288}}
{{- end }}
{{- end }}

{{/* Of a pod's spec; `group` is .Values.head or .Values.workers. */}}
{{- define "sentinel.placing" -}}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext: {{- include "sentinel.podSecurity" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .group.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
