{{/* Names, labels and what else is said in several places. */}}

{{- define "sentinel.labels" -}}
app.kubernetes.io/name: sentinelstream
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What selects this release's own pods; "part" is head, worker or redis. */}}
{{- define "sentinel.selector" -}}
app.kubernetes.io/name: sentinelstream
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sentinel.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sentinel.redisAddress" -}}
{{ .Values.redis.address | default (printf "%s-redis:6379" .Release.Name) }}
{{- end }}

{{- define "sentinel.redisUsed" -}}
{{- if or .Values.redis.profiles.enabled .Values.redis.gcs.enabled }}yes{{ end }}
{{- end }}

{{/* Every container of ours. */}}
{{- define "sentinel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
{{- end }}

{{/* Every pod of ours: the image's user, whose group owns what is mounted. */}}
{{- define "sentinel.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end }}
