{{- /*
What is done with the values before anything is rendered: values that are not there get their defaults (`helm upgrade
--reuse-values` brings those of an older chart), unknown names and what cannot be on end the installation. Each template
begins with it; it is done once. The schema tells what is known (files/values.schema.json is values.schema.json, which Helm
does not show to templates).
*/ -}}
{{- define "spiderpool.prepare" -}}
{{- if not (hasKey . "SpiderpoolSchema") }}
{{- $schema := .Files.Get "files/values.schema.json" | fromJson }}
{{- $_ := set . "SpiderpoolSchema" $schema }}
{{- $found := dict "unknown" list "refused" list "unused" list }}
{{- include "spiderpool.walk" (dict "schema" $schema "values" .Values "path" "" "found" $found "strict" .Chart.IsRoot) }}
{{- $_ := set . "SpiderpoolUnused" $found.unused }}
{{- $problems := $found.refused }}
{{- range $found.unknown }}
{{- $problems = append $problems (include "spiderpool.unknownName" (dict "schema" $schema "path" .)) }}
{{- end }}
{{- $problems = concat $problems (include "spiderpool.contradictions" . | fromJsonArray) }}
{{- if $problems }}
{{- fail (printf "\n\nThese values cannot be installed:\n* %s\n" (join "\n* " $problems)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /*
Fills in defaults, and collects names that are unknown, values that are refused and values without effect (path, sentence).
Names below `global` are other charts' too where this chart is part of another one.
*/ -}}
{{- define "spiderpool.walk" -}}
{{- $found := .found }}
{{- range $name, $schema := .schema.properties }}
{{- $path := printf "%s%s" $.path $name }}
{{- if $schema.properties }}
{{- if not (kindIs "map" (index $.values $name)) }}
{{- $_ := set $.values $name dict }}
{{- end }}
{{- include "spiderpool.walk" (dict "schema" $schema "values" (index $.values $name) "path" (printf "%s." $path) "found" $found "strict" (or $.strict (ne $path "global"))) }}
{{- else }}
{{- if kindIs "invalid" (index $.values $name) }}
{{- $_ := set $.values $name (contains "object" (toString $schema.type) | ternary dict $schema.default) }}
{{- end }}
{{- $value := index $.values $name }}
{{- if and (index $schema "x-refuse") $value }}
{{- $_ := set $found "refused" (append $found.refused (printf "%s: %s" $path (index $schema "x-refuse"))) }}
{{- else if and (index $schema "x-no-effect") (ne (toJson $value) (toJson $schema.default)) }}
{{- $_ := set $found "unused" (append $found.unused (list $path (index $schema "x-no-effect"))) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .strict }}
{{- range $name, $_ := .values }}
{{- if not (hasKey $.schema.properties $name) }}
{{- $_ := set $found "unknown" (append $found.unknown (printf "%s%s" $.path $name)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A sentence about an unknown name: (dict "schema" … "path" …). */ -}}
{{- define "spiderpool.unknownName" -}}
{{- $best := dict "score" 50.0 "path" "" }}
{{- $name := splitList "." .path | last | lower }}
{{- include "spiderpool.nearest" (dict "schema" .schema "path" "" "name" $name "parent" (.path | trimSuffix (splitList "." .path | last)) "best" $best) }}
{{- if $best.path -}}
{{ .path }} is not a value of this chart; did you mean {{ $best.path }}?
{{- else -}}
{{ .path }} is not a value of this chart (docs/reference/chart-values.md has all); leave it out
{{- end }}
{{- end }}

{{- /* Finds the known path whose last name has most pairs of letters in common with `name`; one of the same parent is nearer. */ -}}
{{- define "spiderpool.nearest" -}}
{{- $best := .best }}
{{- range $known, $schema := .schema.properties }}
{{- $path := printf "%s%s" $.path $known }}
{{- $score := include "spiderpool.likeness" (list $.name (lower $known)) | float64 }}
{{- if eq $.path $.parent }}
{{- $score = addf $score 15 }}
{{- end }}
{{- if gt $score $best.score }}
{{- $_ := set $best "score" $score }}
{{- $_ := set $best "path" $path }}
{{- end }}
{{- if $schema.properties }}
{{- include "spiderpool.nearest" (dict "schema" $schema "path" (printf "%s." $path) "name" $.name "parent" $.parent "best" $best) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* How much two names have in common, 0 to 100: twice their common pairs of letters by all pairs (Dice's coefficient). */ -}}
{{- define "spiderpool.likeness" -}}
{{- $one := index . 0 }}
{{- $two := index . 1 }}
{{- $common := 0 }}
{{- range $i := until (max 0 (sub (len $one) 1) | int) }}
{{- if contains (substr $i (add $i 2 | int) $one) $two }}
{{- $common = add $common 1 }}
{{- end }}
{{- end }}
{{- divf (mulf 200 $common) (max 1 (add (len $one) (len $two) -2)) }}
{{- end }}

{{- /* What no schema can say, as a JSON list of sentences. */ -}}
{{- define "spiderpool.contradictions" -}}
{{- $problems := list }}
{{- if not (or .Values.ipam.enableIPv4 .Values.ipam.enableIPv6) }}
{{- $problems = append $problems "ipam.enableIPv4 and ipam.enableIPv6 are both false: pods would get no address; enable at least one" }}
{{- end }}
{{- $pool := .Values.clusterDefaultPool }}
{{- range $family := list "4" "6" }}
{{- if index $pool (printf "installIPv%sIPPool" $family) }}
{{- if not (index $.Values.ipam (printf "enableIPv%s" $family)) }}
{{- $problems = append $problems (printf "clusterDefaultPool.installIPv%sIPPool needs ipam.enableIPv%s" $family $family) }}
{{- end }}
{{- if not (index $pool (printf "ipv%sSubnet" $family)) }}
{{- $problems = append $problems (printf "clusterDefaultPool.installIPv%sIPPool needs clusterDefaultPool.ipv%sSubnet: the subnet of the pool, as a CIDR" $family $family) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.spiderpoolController.tls }}
{{- if and (eq .method "provided") (not (and .provided.tlsCert .provided.tlsKey .provided.tlsCa)) }}
{{- $problems = append $problems "spiderpoolController.tls.method is provided: set tls.provided.tlsCert, tlsKey and tlsCa (base64)" }}
{{- end }}
{{- if and (eq .method "certmanager") (not .certmanager.issuerName) }}
{{- $problems = append $problems "spiderpoolController.tls.method is certmanager: set tls.certmanager.issuerName" }}
{{- end }}
{{- end }}
{{- range list "spiderpoolAgent" "spiderpoolController" "spiderpoolInit" }}
{{- $account := index $.Values . "serviceAccount" }}
{{- if not (or $account.create $account.name) }}
{{- $problems = append $problems (printf "%s.serviceAccount.create is false: set %s.serviceAccount.name to the account that is there" . .) }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}
