{{/* The one Serve config with what this place lays over it. */}}
{{- define "sentinel.serveConfig" -}}
{{- $config := .Files.Get "files/serve-config.yaml" | fromYaml -}}
{{- $serve := .Values.serve -}}
{{- $_ := set $config "http_options" (dict "host" "0.0.0.0" "port" (int $serve.port)) -}}
{{- $application := first $config.applications -}}
{{- $_ := set $application "args" (include "sentinel.serveArgs" . | fromYaml) -}}
{{- with $serve.autoscaling -}}
{{- $_ := set $application.autoscaling_policy "policy_kwargs" . -}}
{{- end -}}
{{- $bundle := dict "bundle" .Values.bundle.uri -}}
{{- with .Values.bundle.digest -}}
{{- $_ := set $bundle "digest" . -}}
{{- end -}}
{{- $deployments := list -}}
{{- range $deployment := $application.deployments -}}
{{- $own := index $serve.deployments $deployment.name -}}
{{- if or (eq $serve.placement "separate") (has $deployment.name (list "FraudRouter" "Profiles")) -}}
{{- $_ := set $deployment "user_config" $bundle -}}
{{- $_ := set $deployment "ray_actor_options" (dict "num_cpus" $own.numCpus) -}}
{{- if hasKey $own "maxReplicas" -}}
{{- $bounds := dict "min_replicas" (int $own.minReplicas) "max_replicas" (int $own.maxReplicas) -}}
{{- $_ := set $deployment "autoscaling_config" (merge $bounds $deployment.autoscaling_config) -}}
{{- end -}}
{{- $deployments = append $deployments $deployment -}}
{{- end -}}
{{- end -}}
{{- $_ := set $application "deployments" $deployments -}}
{{- if .Values.ingest.enabled -}}
{{- $ingest := include "sentinel.ingest" . | fromYaml -}}
{{- $_ := set $config "applications" (append $config.applications $ingest) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* The application that reads Kafka: one deployment that watches over its pool of workers. */}}
{{- define "sentinel.ingest" -}}
{{- with .Values.ingest -}}
name: ingest
route_prefix: null
import_path: kafka_ingest.app:build
args:
  bootstrap_servers: {{ .bootstrapServers | quote }}
  topics:
    input: {{ .topics.input | quote }}
    output: {{ .topics.decisions | quote }}
    alerts: {{ .topics.alerts | quote }}
    dead_letters: {{ .topics.deadLetters | quote }}
    labels: {{ .topics.labels | quote }}
  worker:
    group: {{ .group | quote }}
  lowest: {{ .workers.min }}
  highest: {{ .workers.max }}
  {{- if .configSecret }}
  config: /etc/sentinel/kafka/librdkafka.properties
  {{- end }}
{{- end }}
{{- end }}

{{- define "sentinel.serveArgs" -}}
placement: {{ .Values.serve.placement }}
{{- if .Values.api.keysSecret }}
api_keys: /etc/sentinel/keys/api-keys.yaml
{{- else }}
allow_anonymous: {{ .Values.api.allowAnonymous }}
{{- end }}
{{- if .Values.redis.profiles.enabled }}
profiles:
  uri: {{ printf "%s://%s%s/%v" (ternary "rediss" "redis" .Values.redis.tls) (empty .Values.redis.username | ternary "" (printf "%s@" .Values.redis.username)) (include "sentinel.redisAddress" .) .Values.redis.profiles.database }}
  password_file: /etc/sentinel/redis/password
{{- end }}
{{- end }}
