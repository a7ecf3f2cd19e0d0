{{- define "spiderpool.name" -}}
{{ default .Chart.Name .Values.global.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Labels of every object. */ -}}
{{- define "spiderpool.labels" -}}
{{ include "spiderpool.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "spiderpool.selectorLabels" -}}
app.kubernetes.io/name: {{ include "spiderpool.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spiderpool.annotations" -}}
{{- with .Values.global.commonAnnotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* Reference of an image: (list $ image-values). */ -}}
{{- define "spiderpool.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $registry := default $image.registry $root.Values.global.imageRegistryOverride }}
{{- $path := ternary (printf "%s/%s" $registry $image.repository) $image.repository (not (empty $registry)) }}
{{- if $image.digest }}
{{- printf "%s@%s" $path $image.digest }}
{{- else }}
{{- printf "%s:%s" $path (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "spiderpool.pullSecrets" -}}
{{- with .imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "spiderpool.serviceAccountName" -}}
{{ .name }}
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

{{- /* Multus itself is installed only where the builtin meta plugin does not do its work. */ -}}
{{- define "spiderpool.installMultus" -}}
{{- if and .Values.multus.multusCNI.install (not .Values.multus.builtin.enabled) }}true{{ end }}
{{- end }}
