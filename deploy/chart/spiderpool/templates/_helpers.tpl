{{- define "spiderpool.name" -}}
{{ default .Chart.Name .Values.global.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "spiderpool.selectorLabels" -}}
app.kubernetes.io/name: {{ include "spiderpool.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /*
Labels and annotations of an object or a pod, templates in values resolved. Selectors depend on ours: no value changes them.
  root         the chart's context
  component    name in the label app.kubernetes.io/component, if any
  labels       a list of mappings of values, besides those of all objects; likewise annotations
  fixed        annotations that no value changes
*/ -}}
{{- define "spiderpool.marks" -}}
{{- $root := .root }}
{{- $labels := include "spiderpool.resolved" (list $root (prepend (default list .labels) $root.Values.global.commonLabels)) | fromYaml }}
{{- $ours := include "spiderpool.selectorLabels" $root | fromYaml }}
{{- $_ := set $ours "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $ours "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- with .component }}
{{- $_ := set $ours "app.kubernetes.io/component" . }}
{{- end -}}
labels:
  {{- mergeOverwrite $labels $ours | toYaml | nindent 2 }}
{{- $annotations := include "spiderpool.resolved" (list $root (prepend (default list .annotations) $root.Values.global.commonAnnotations)) | fromYaml }}
{{- with mergeOverwrite $annotations (default dict .fixed) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* One mapping from several, later ones first, values as text: (list $ mappings). */ -}}
{{- define "spiderpool.resolved" -}}
{{- $root := index . 0 }}
{{- $all := dict }}
{{- range index . 1 }}
{{- range $name, $text := . }}
{{- $_ := set $all $name (tpl (toString $text) $root) }}
{{- end }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{- /* Annotations of a Helm hook: (list when weight when-its-log-is-shown), removed as soon as it succeeded. */ -}}
{{- define "spiderpool.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- if gt (len .) 2 }}
helm.sh/hook-output-log-policy: {{ index . 2 }}
{{- end }}
{{- end }}

{{- /*
Reference of an image: (list $ image-values). The name of an image of the original's, in an old values file, stands for this
chart's own image: in the same registry, unless that is the original's, and with this chart's tag.
*/ -}}
{{- define "spiderpool.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- if include "spiderpool.isOriginal" $image }}
{{- $own := dict "registry" (ternary "" $image.registry (eq $image.registry "ghcr.io")) "repository" "spiderpool" }}
{{- $image = $own }}
{{- end }}
{{- $registry := default $image.registry $root.Values.global.imageRegistryOverride }}
{{- $path := ternary (printf "%s/%s" $registry $image.repository) $image.repository (not (empty $registry)) }}
{{- if $image.digest }}
{{- printf "%s@%s" $path $image.digest }}
{{- else }}
{{- printf "%s:%s" $path (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "spiderpool.isOriginal" -}}
{{- if regexMatch "^spidernet-io/spiderpool/spiderpool-(agent|controller)$" .repository }}true{{ end }}
{{- end }}

{{- /* Secrets for the images of a pod: (list $ image-values…); each once, given as `name: …` or as a plain name. */ -}}
{{- define "spiderpool.pullSecrets" -}}
{{- $names := list }}
{{- range concat (list (dict "imagePullSecrets" (index . 0).Values.global.imagePullSecrets)) (rest .) }}
{{- range .imagePullSecrets }}
{{- if kindIs "map" . }}
{{- $names = append $names (pick . "name") }}
{{- else }}
{{- $names = append $names (dict "name" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- with uniq $names -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "spiderpool.accountName" -}}
{{ default .name .serviceAccount.name }}
{{- end }}

{{- /* Where a component's pods run. */ -}}
{{- define "spiderpool.placement" -}}
priorityClassName: {{ .priorityClassName }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The folder of the agent's socket. */ -}}
{{- define "spiderpool.socketDir" -}}
{{ dir .Values.global.ipamUNIXSocketHostPath }}
{{- end }}

{{- /* Where probes of host-network pods ask. */ -}}
{{- define "spiderpool.probeHost" -}}
{{ ternary "127.0.0.1" "::1" .Values.ipam.enableIPv4 | quote }}
{{- end }}

{{- /* One probe: (list $ component-values path probe-values). */ -}}
{{- define "spiderpool.probe" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $probe := index . 3 }}
httpGet:
  {{- if $component.hostnetwork }}
  host: {{ include "spiderpool.probeHost" $root }}
  {{- end }}
  path: /v1/runtime/{{ index . 2 }}
  port: {{ $component.httpPort }}
failureThreshold: {{ $probe.failureThreshold }}
periodSeconds: {{ $probe.periodSeconds }}
timeoutSeconds: 5
{{- end }}

{{- define "spiderpool.probes" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $checks := $component.healthChecking }}
startupProbe:
  {{- include "spiderpool.probe" (list $root $component "startup" $checks.startupProbe) | nindent 2 }}
livenessProbe:
  {{- include "spiderpool.probe" (list $root $component "liveness" $checks.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- include "spiderpool.probe" (list $root $component "readiness" $checks.readinessProbe) | nindent 2 }}
{{- end }}

{{- /* Environment from a dict, sorted, values as text. */ -}}
{{- define "spiderpool.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{- define "spiderpool.identityEnv" -}}
- name: SPIDERPOOL_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: SPIDERPOOL_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{- /* The same network name for all: <release namespace>/<name>, or nothing. */ -}}
{{- define "spiderpool.clusterNetwork" -}}
{{- with .Values.multus.multusCNI.defaultCniCRName }}
{{- if contains "/" . }}{{ . }}{{ else }}{{ $.Release.Namespace }}/{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- /* Multus is installed only where the builtin meta plugin does not do its work. */ -}}
{{- define "spiderpool.installMultus" -}}
{{- $multus := .Values.multus.multusCNI }}
{{- if and $multus.install (not $multus.uninstall) (not .Values.multus.builtin.enabled) }}true{{ end }}
{{- end }}

{{- /* The CNI project's plugins that the agent puts on its node. */ -}}
{{- define "spiderpool.plugins" -}}
{{- $names := list }}
{{- if .Values.plugins.installCNI }}
{{- $names = list "macvlan" "ipvlan" "bridge" "ptp" "host-device" "tuning" "sbr" "bandwidth" "portmap" "loopback" "static" "host-local" "dhcp" }}
{{- end }}
{{- if or .Values.plugins.installCNI .Values.plugins.installVlanCNI }}
{{- $names = append $names "vlan" }}
{{- end }}
{{- join "," $names }}
{{- end }}

{{- /* Tokens name the node of their pod from Kubernetes 1.30 on; policies are of the same version. */ -}}
{{- define "spiderpool.nodePolicies" -}}
{{- if and .Values.spiderpoolAgent.nodePolicies (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}true{{ end }}
{{- end }}

{{- /* By which names the API server and others reach the webhooks. */ -}}
{{- define "spiderpool.webhookNames" -}}
{{- $name := .Values.spiderpoolController.name }}
{{- $host := printf "%s.%s.svc" $name .Release.Namespace }}
{{- list "localhost" $name (printf "%s.%s" $name .Release.Namespace) $host (printf "%s.%s" $host .Values.global.clusterDnsDomain) | toJson }}
{{- end }}

{{- /*
Security context of a program that needs nothing of its node but, perhaps, files that are root's: (list own-context needs-files).
CNI configurations may be readable by their owner alone; root without capabilities is that owner, and little else.
*/ -}}
{{- define "spiderpool.confined" -}}
{{- $user := ternary 0 65532 (index . 1) }}
{{- $confined := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) "readOnlyRootFilesystem" true "runAsNonRoot" (ne $user 0) "runAsUser" $user "runAsGroup" $user "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- toYaml (default $confined (index . 0)) }}
{{- end }}

{{- /* Whether the controller reads the CNI configurations of its node: they tell where the pod network's addresses are written. */ -}}
{{- define "spiderpool.readsNode" -}}
{{- if and .Values.coordinator.enabled (eq .Values.coordinator.podCIDRType "auto") }}true{{ end }}
{{- end }}

{{- /* Names of our definitions, as a JSON list: those of the files that the chart brings. */ -}}
{{- define "spiderpool.definitions" -}}
{{- $names := list }}
{{- range $path, $_ := .Files.Glob "crds/*.yaml" }}
{{- $parts := base $path | trimSuffix ".yaml" | splitList "_" }}
{{- $names = append $names (printf "%s.%s" (last $parts) (first $parts)) }}
{{- end }}
{{- toJson $names }}
{{- end }}
