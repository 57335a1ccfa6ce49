{{- define "countersign.fullname" -}}
{{- if contains "countersign" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-countersign" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end -}}

{{- define "countersign.labels" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "countersign.image" -}}
{{- $image := .Values.image -}}
{{- $tagged := printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- if $image.digest }}{{ printf "%s@%s" $tagged $image.digest }}{{ else }}{{ $tagged }}{{ end -}}
{{- end -}}

{{/* The Secret with the serving certificate. */}}
{{- define "countersign.certificate" -}}
{{- if eq .Values.certificate.mode "Secret" -}}
{{- .Values.certificate.secretName -}}
{{- else -}}
{{- include "countersign.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{- define "countersign.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "countersign.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The namespaces that are not reviewed. */}}
{{- define "countersign.excluded" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.webhooks.excludeNamespaces | uniq | toJson -}}
{{- end -}}

{{/* The command that scans what this release reviews. */}}
{{- define "countersign.scan" -}}
countersign scan -A
{{- if ne .Release.Namespace "countersign" }} --system-namespace {{ .Release.Namespace }}{{ end }}
{{- range .Values.webhooks.excludeNamespaces }} --exclude-namespace {{ . }}{{ end }}
{{- end -}}

{{/* The ConfigMap with the webhook configurations. Its name changes with them: a replica of another
version must not apply webhooks that it does not serve. */}}
{{- define "countersign.webhooks" -}}
{{- $text := printf "%s%s" (include "countersign.validating" .) (include "countersign.mutating" .) -}}
{{- printf "%s-webhooks-%s" (include "countersign.fullname" .) (sha256sum $text | trunc 10) -}}
{{- end -}}

{{/* What values.schema.json cannot say: stops with what to do. */}}
{{- define "countersign.check" -}}
{{- if has .Release.Namespace (list "default" "kube-system" "kube-public" "kube-node-lease") }}
{{- fail (printf `

The namespace %s is not for Countersign: what runs beside it is not reviewed, and Countersign may read
every Secret there. Give it one of its own, as -n countersign --create-namespace` .Release.Namespace) }}
{{- end }}
{{- if not .Values.unmatched }}
{{- fail (printf `

unmatched is not set: what happens to images that no TrustPolicy with action Deny matches?
  Deny   they are refused
  Warn   they are let in, with a warning
  Audit  they are let in, and logged
It has no default, because Deny stops whatever has no policy yet and the others let it run.
On a cluster with workloads:
  1. install with --set unmatched=Audit, and write TrustPolicies
  2. this tells which running images would be refused, and why: %s
  3. once nothing is left that has to run: helm upgrade --reset-then-reuse-values --set unmatched=Deny
On an empty cluster: --set unmatched=Deny` (include "countersign.scan" .)) }}
{{- end }}
{{- with .Values.certificate }}
{{- if and (eq .mode "Secret") (not .secretName) }}
{{- fail "\n\ncertificate.mode is Secret: name the Secret with tls.crt, tls.key and ca.crt in certificate.secretName" }}
{{- end }}
{{- if and (eq .mode "CertManager") (not .issuerRef.name) }}
{{- fail "\n\ncertificate.mode is CertManager: name the issuer in certificate.issuerRef.name" }}
{{- end }}
{{- end }}
{{- $pulls := or .Values.pullSecrets.everywhere .Values.pullSecrets.namespaces }}
{{- if and $pulls (not .Values.networkPolicy.apiServer) (not .Values.clientCA.configMap) }}
{{- fail `

pullSecrets lets Countersign use pods' pull secrets, and anything that can reach its port could ask
it to, by a forged review. Say who may:
  networkPolicy.apiServer  where the API server's connections come from (with networkPolicy.enabled=false:
                           what your own policy lets through), or
  clientCA.configMap       the authority of the certificate that the API server shows
docs/install.md tells how to find out the former and how to set up the latter.` }}
{{- end }}
{{- end -}}

{{- define "countersign.testLabels" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}
