{{/* What no schema of single values can refuse, most of which the operator would accept in silence
and leave a service that never becomes ready, or never scales. */}}
{{- define "sentinel.refusals" -}}
{{- include "sentinel.refuseName" . -}}
{{- include "sentinel.refuseBounds" . -}}
{{- include "sentinel.refuseResources" . -}}
{{- include "sentinel.refuseRoom" . -}}
{{- include "sentinel.refuseUpgrade" . -}}
{{- include "sentinel.refuseAccess" . -}}
{{- include "sentinel.refuseConnections" . -}}
{{- end }}

{{- define "sentinel.refuseName" -}}
{{- if gt (len .Release.Name) 47 -}}
{{- fail (printf "the release's name %q has %d characters, expected at most 47: KubeRay makes longer names of it" .Release.Name (len .Release.Name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release's name is %q, expected a letter first, then letters, digits and dashes: KubeRay makes names of Services of it" .Release.Name) -}}
{{- end -}}
{{- end }}

{{/* Minimum over maximum, and a pair of the autoscaling's settings that only its policy would refuse. */}}
{{- define "sentinel.refuseBounds" -}}
{{- $bounds := dict "workers" .Values.workers -}}
{{- range $name, $deployment := .Values.serve.deployments -}}
{{- if hasKey $deployment "minReplicas" -}}
{{- $_ := set $bounds (printf "serve.deployments.%s" $name) $deployment -}}
{{- end -}}
{{- end -}}
{{- range $where, $pair := $bounds -}}
{{- if gt (int $pair.minReplicas) (int $pair.maxReplicas) -}}
{{- fail (printf "%s.minReplicas is %v, expected at most maxReplicas (%v)" $where $pair.minReplicas $pair.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if gt (int .Values.ingest.workers.min) (int .Values.ingest.workers.max) -}}
{{- fail (printf "ingest.workers.min is %v, expected at most max (%v)" .Values.ingest.workers.min .Values.ingest.workers.max) -}}
{{- end -}}
{{- $grow := .Values.serve.autoscaling.grow_busy | default 0.7 -}}
{{- $shrink := .Values.serve.autoscaling.shrink_busy | default 0.5 -}}
{{- if gt (float64 $shrink) (float64 $grow) -}}
{{- fail (printf "serve.autoscaling.shrink_busy is %v, expected at most grow_busy (%v): replicas would go and come back at once" $shrink $grow) -}}
{{- end -}}
{{- end }}

{{/* A quantity of Kubernetes as a number: "500m" is 0.5, "1Ki" 1024. */}}
{{- define "sentinel.amount" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $factors := dict "" 1 "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf $number (index $factors (regexFind "[a-zA-Z]*$" .)) -}}
{{- end }}

{{- define "sentinel.refuseResources" -}}
{{- $small := .Values.redis.small -}}
{{- range $where, $resources := dict "head.resources" .Values.head.resources "head.autoscaler" .Values.head.autoscaler "workers.resources" .Values.workers.resources "redis.small.resources" $small.resources -}}
{{- range $kind := list "cpu" "memory" -}}
{{- $request := index $resources.requests $kind -}}
{{- $limit := index $resources.limits $kind -}}
{{- if gt (include "sentinel.amount" $request | float64) (include "sentinel.amount" $limit | float64) -}}
{{- fail (printf "%s.requests.%s is %s, expected at most the limit (%s): no pod would be made" $where $kind $request $limit) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $limit := .Values.workers.resources.limits.cpu -}}
{{- if gt (float64 .Values.workers.cpus) (include "sentinel.amount" $limit | float64) -}}
{{- fail (printf "workers.cpus is %v, expected at most workers.resources.limits.cpu (%s): Ray would place more than the pod can do" .Values.workers.cpus $limit) -}}
{{- end -}}
{{- range $where, $group := dict "head" .Values.head "workers" .Values.workers -}}
{{- $memory := $group.resources.limits.memory -}}
{{- if gt (mulf 2 $group.objectStoreBytes) (include "sentinel.amount" $memory | float64) -}}
{{- fail (printf "%s.objectStoreBytes is %v, expected at most half of the memory's limit (%s)" $where (int64 $group.objectStoreBytes) $memory) -}}
{{- end -}}
{{- end -}}
{{- $kept := $small.maxMemory | replace "mb" "Mi" | replace "gb" "Gi" -}}
{{- if gt (mulf 1.25 (include "sentinel.amount" $kept | float64)) (include "sentinel.amount" $small.resources.limits.memory | float64) -}}
{{- fail (printf "redis.small.maxMemory is %s, expected at most 0.8 of the memory's limit (%s): rewriting its file takes memory too" $small.maxMemory $small.resources.limits.memory) -}}
{{- end -}}
{{- end }}

{{/* Replicas that no number of worker pods has room for would be waited for without end. */}}
{{- define "sentinel.refuseRoom" -}}
{{- $least := 0.0 -}}
{{- $most := 0.0 -}}
{{- $cpus := float64 .Values.workers.cpus -}}
{{- range $name, $deployment := .Values.serve.deployments -}}
{{- if or (eq $.Values.serve.placement "separate") (has $name (list "FraudRouter" "Profiles")) -}}
{{- if gt (float64 $deployment.numCpus) $cpus -}}
{{- fail (printf "serve.deployments.%s.numCpus is %v, expected at most workers.cpus (%v)" $name $deployment.numCpus $cpus) -}}
{{- end -}}
{{- $least = addf $least (mulf $deployment.numCpus ($deployment.minReplicas | default 1)) -}}
{{- $most = addf $most (mulf $deployment.numCpus ($deployment.maxReplicas | default 1)) -}}
{{- end -}}
{{- end -}}
{{- range $check := list (list "fewest" $least .Values.workers.minReplicas "minReplicas") (list "most" $most .Values.workers.maxReplicas "maxReplicas") -}}
{{- $room := mulf $cpus (index $check 2) -}}
{{- if gt (index $check 1) (addf $room 0.000001) -}}
{{- fail (printf "serve.deployments reserve %v CPUs with their %s replicas, expected at most those of workers.%s pods (%v)" (index $check 1) (index $check 0) (index $check 3) $room) -}}
{{- end -}}
{{- end -}}
{{- $drain := 0.0 -}}
{{- $config := .Files.Get "files/serve-config.yaml" | fromYaml -}}
{{- range $deployment := (first $config.applications).deployments -}}
{{- $drain = max $drain $deployment.graceful_shutdown_timeout_s -}}
{{- end -}}
{{- if le (float64 .Values.terminationGracePeriodSeconds) (addf $drain 30) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, expected more than what a pod waits for: its replicas (%v s), then Ray's drain of the node (30 s)" .Values.terminationGracePeriodSeconds $drain) -}}
{{- end -}}
{{- end }}

{{- define "sentinel.refuseUpgrade" -}}
{{- with .Values.upgrade -}}
{{- if eq .type "NewClusterWithIncrementalUpgrade" -}}
{{- range $key := list "gatewayClassName" "maxSurgePercent" "stepSizePercent" "intervalSeconds" -}}
{{- if not (hasKey $.Values.upgrade.incremental $key) -}}
{{- fail (printf "upgrade.incremental.%s is missing: an incremental upgrade needs it" $key) -}}
{{- end -}}
{{- end -}}
{{- if gt (int .incremental.stepSizePercent) (int .incremental.maxSurgePercent) -}}
{{- fail (printf "upgrade.incremental.stepSizePercent is %v, expected at most maxSurgePercent (%v)" .incremental.stepSizePercent .incremental.maxSurgePercent) -}}
{{- end -}}
{{- if $.Values.gateway.enabled -}}
{{- fail "gateway.enabled is true, expected false with an incremental upgrade: KubeRay makes a Gateway of its own then, and moves traffic by it" -}}
{{- end -}}
{{- else if .incremental -}}
{{- fail (printf "upgrade.incremental is set and upgrade.type is %s, expected NewClusterWithIncrementalUpgrade" .type) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "sentinel.refuseAccess" -}}
{{- if and .Values.api.keysSecret .Values.api.allowAnonymous -}}
{{- fail "api.allowAnonymous is true and api.keysSecret is set, expected one of them" -}}
{{- end -}}
{{- if not (or .Values.api.keysSecret .Values.api.allowAnonymous) -}}
{{- fail "api.keysSecret is empty, expected the Secret of the API keys, or api.allowAnonymous: true where nobody is to be asked: routers refuse to start otherwise" -}}
{{- end -}}
{{- with .Values.gateway -}}
{{- if .enabled -}}
{{- range $key := list "className" "host" "tlsSecret" -}}
{{- if not (index $.Values.gateway $key) -}}
{{- fail (printf "gateway.%s is empty: a gateway needs it" $key) -}}
{{- end -}}
{{- end -}}
{{- if $.Values.api.allowAnonymous -}}
{{- fail "gateway.enabled is true and api.allowAnonymous too, expected api.keysSecret: everyone who reaches the gateway could ask" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "sentinel.refuseConnections" -}}
{{- if and .Values.ingest.enabled (not .Values.ingest.bootstrapServers) -}}
{{- fail "ingest.bootstrapServers is empty, expected Kafka's host:port[,host:port]" -}}
{{- end -}}
{{- if and (or .Values.redis.tls .Values.redis.username) (not .Values.redis.address) -}}
{{- fail "redis.tls and redis.username are for a Redis of yours, expected redis.address: the chart's small one has neither" -}}
{{- end -}}
{{- with .Values.networkPolicy -}}
{{- if and .enabled (contains "://" $.Values.bundle.uri) (not (hasPrefix "file://" $.Values.bundle.uri)) (not .bundleStore.ports) (not .egress) -}}
{{- fail (printf "bundle.uri is %s and networkPolicy.bundleStore.ports is empty, expected the port of that store: no pod would reach it" $.Values.bundle.uri) -}}
{{- end -}}
{{- end -}}
{{- end }}
