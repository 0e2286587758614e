{{/* What all objects are called by, and the labels that they bear. */}}
{{- define "vl3.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "vl3.selector" -}}
app.kubernetes.io/name: vl3
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "vl3.labels" -}}
{{ include "vl3.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "vl3.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "vl3.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where the Service is found, and what else is advertised. */}}
{{- define "vl3.registry.addresses" -}}
{{- $own := printf "%s-registry.%s.svc:%v" (include "vl3.fullname" .) .Release.Namespace .Values.registry.service.port }}
{{- join "," (concat (list $own) .Values.registry.advertise) }}
{{- end }}

{{/*
Whether nodes of this cluster find the registry here, and it knows the cluster: "true" or nothing. A signer apart takes no cluster's word, and
with an identity of its own a node needs none.
*/}}
{{- define "vl3.registry.knowsCluster" -}}
{{- if and .Values.registry.enabled .Values.registry.clusters.own.enabled (not .Values.registry.signer.credentialSecret) (not .Values.identity.source) }}true{{ end }}
{{- end }}

{{/* The CA's own address. */}}
{{- define "vl3.ca.address" -}}
{{- printf "%s-ca.%s.svc:%v" (include "vl3.fullname" .) .Release.Namespace .Values.ca.service.port }}
{{- end }}

{{/* Where an identity of their own is, for registry and agents: env, mounts and volume of the Workload API's socket. */}}
{{- define "vl3.identity.socket" -}}
unix:///run/spiffe/{{ .Values.identity.workloadApi.socket }}
{{- end }}

{{- define "vl3.identity.mount" -}}
# The directory: an agent of SPIRE that is started again makes its socket anew.
- {name: spiffe, mountPath: /run/spiffe, readOnly: true}
{{- end }}

{{- define "vl3.identity.volume" -}}
{{- with .Values.identity.workloadApi -}}
- name: spiffe
  {{- if .csiDriver }}
  csi: {driver: {{ .csiDriver }}, readOnly: true}
  {{- else }}
  hostPath: {path: {{ .hostDirectory }}, type: Directory}
  {{- end }}
{{- end }}
{{- end }}

{{/* The name of this cluster's domain, as far as the values tell: with join tokens they need not. */}}
{{- define "vl3.trustDomain" -}}
{{- $named := .Values.registry.trustDomain }}
{{- if .Values.agent.domain }}
{{- $told := regexReplaceAll "^vl3://([^?]*)[?].*$" .Values.agent.domain "${1}" }}
{{- if and $named (ne $named $told) }}{{ fail (printf "registry.trustDomain is %q, and agent.domain that of %q: a cluster is in one domain, leave one of them out" $named $told) }}{{ end }}
{{- $told }}
{{- else }}
{{- $named }}
{{- end }}
{{- end }}

{{/* Whom agents' service-account tokens are for: the registry of the domain. */}}
{{- define "vl3.registry.audience" -}}
spiffe://{{ include "vl3.trustDomain" . }}/registry
{{- end }}

{{/* How nodes enrol, once it is clear that they can: "serviceAccount" or "joinTokens". */}}
{{- define "vl3.agent.enrolment" -}}
{{- if .Values.identity.source }}
{{- if eq .Values.agent.enrolment "joinTokens" }}{{ fail "agent.enrolment=joinTokens is for a domain with a CA of its own, and identity.source is set: leave one of them out" }}{{ end }}
{{- if .Values.agent.domain }}{{ fail "agent.domain is for a domain with a CA of its own, and identity.source is set: name the registry in agent.registries" }}{{ end }}
{{- if .Values.agent.namePrefix }}{{ fail "agent.namePrefix goes with agent.enrolment=joinTokens alone: nodes are called as their SVIDs have it" }}{{ end }}
{{- if not (or .Values.registry.enabled .Values.agent.registries) }}{{ fail "agent.registries is required in a cluster without the registry, with identity.source" }}{{ end -}}
ownIdentity
{{- else }}
{{- if .Values.agent.registries }}{{ fail "agent.registries is for nodes with an identity of their own: set identity.source, or leave it out" }}{{ end }}
{{- if eq .Values.agent.enrolment "serviceAccount" }}
{{- if and .Values.registry.enabled .Values.registry.signer.credentialSecret }}{{ fail "agent.enrolment: a signer apart (registry.signer) takes the word of no cluster, set it to joinTokens" }}{{ end }}
{{- if semverCompare "<1.30-0" .Capabilities.KubeVersion.Version }}{{ fail "agent.enrolment: tokens of service accounts name nodes from Kubernetes 1.30 on; in older clusters set it to joinTokens" }}{{ end }}
{{- if not (or .Values.agent.domain (include "vl3.registry.knowsCluster" .)) }}{{ fail "agent.domain is required in a cluster without the registry: what `vl3 registry domain` prints there (or set agent.enrolment to joinTokens)" }}{{ end }}
{{- if .Values.agent.namePrefix }}{{ fail "agent.namePrefix goes with agent.enrolment=joinTokens alone: nodes are called after their cluster, <cluster>-<node>, as the registry has it" }}{{ end }}
{{- end }}
{{- .Values.agent.enrolment }}
{{- end }}
{{- end }}

{{/*
What the agent's process keeps, of all that a privileged container has. The container is privileged for two reasons: it pins
network namespaces in the node's mount namespace (Bidirectional mount propagation, which Kubernetes gives to none else), and it
sets /proc/sys/net of the namespaces that it makes (read-only for all others). The rest is dropped before it starts.

  net_admin         interfaces, routes, nftables, TUN, large socket buffers
  sys_admin         make, pin and enter network namespaces
  sys_ptrace        open /proc/PID/ns/net of a pod whose processes have other users
  net_raw           hear what routers say about packets that are too big
  net_bind_service  answer for names at port 53 of networks' gateway addresses
  chown             where several workers share the UDP port: keep other processes' sockets out of it
*/}}
{{- define "vl3.agent.keep" -}}
-all,+net_admin,+sys_admin,+sys_ptrace,+net_raw,+net_bind_service,+chown
{{- end }}
