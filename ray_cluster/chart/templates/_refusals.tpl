{{- define "sentinel.refusals" -}}
{{- end }}
