{{- define "lakeward.name" -}}
{{- $name := ternary .Release.Name (printf "%s-lakeward" .Release.Name) (contains "lakeward" .Release.Name) -}}
{{ $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "lakeward.selector" -}}
app.kubernetes.io/name: lakeward
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lakeward.labels" -}}
{{ include "lakeward.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "lakeward.secret" -}}
{{ .Values.secret.name | default (include "lakeward.name" .) }}
{{- end }}

{{- define "lakeward.config" -}}
{{ .Values.config | default (.Files.Get "lakeward.yaml") }}
{{- end }}

{{- define "lakeward.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}
