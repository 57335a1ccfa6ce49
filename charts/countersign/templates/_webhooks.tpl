{{- define "countersign.validating" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ include "countersign.fullname" . }}
  labels: {{- include "countersign.kept" . | nindent 4 }}
webhooks:
- name: validate.countersign.dev
  {{- include "countersign.client" (list . "/validate") | nindent 2 }}
  {{- include "countersign.review" . | nindent 2 }}
  {{- include "countersign.changed" . | nindent 2 }}
  rules:
  {{- include "countersign.podRule" . | nindent 2 }}
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [podtemplates, replicationcontrollers]
    operations: [CREATE, UPDATE]
    scope: Namespaced
  - apiGroups: [apps]
    apiVersions: [v1]
    resources: [daemonsets, deployments, replicasets, statefulsets]
    operations: [CREATE, UPDATE]
    scope: Namespaced
  - apiGroups: [batch]
    apiVersions: [v1]
    resources: [cronjobs, jobs]
    operations: [CREATE, UPDATE]
    scope: Namespaced
{{- with .Values.customKinds }}
# Without matchConditions: they know only where the built-in kinds keep their images.
- name: custom.countersign.dev
  {{- include "countersign.client" (list $ "/validate") | nindent 2 }}
  {{- include "countersign.review" $ | nindent 2 }}
  rules:
  {{- range . }}
  - apiGroups: [{{ .group }}]
    apiVersions: ["*"]
    resources: [{{ .resource }}]
    operations: [CREATE, UPDATE]
    scope: "*"
  {{- end }}
{{- end }}
# For the author's sake, and so never in the way: what does not compile denies what it matches.
- name: resources.countersign.dev
  {{- include "countersign.client" (list . "/resources") | nindent 2 }}
  failurePolicy: Ignore
  matchPolicy: Equivalent
  sideEffects: None
  timeoutSeconds: {{ .Values.webhooks.timeoutSeconds }}
  rules:
  - apiGroups: [countersign.dev]
    apiVersions: [v1alpha1]
    resources: [trustpolicies, trustsources]
    operations: [CREATE, UPDATE]
    scope: Cluster
{{- end -}}

{{- define "countersign.mutating" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {{ include "countersign.fullname" . }}
  labels: {{- include "countersign.kept" . | nindent 4 }}
webhooks:
- name: mutate.countersign.dev
  {{- include "countersign.client" (list . "/mutate") | nindent 2 }}
  {{- include "countersign.review" . | nindent 2 }}
  {{- include "countersign.changed" . | nindent 2 }}
  # Another webhook may add a container after this one has seen the pod. Its tag has to become a
  # digest too, or the validating webhook refuses it (NotPinned).
  reinvocationPolicy: IfNeeded
  rules:
  {{- include "countersign.podRule" . | nindent 2 }}
{{- end -}}

{{/*
Not the labels of what Helm installs: who looks for a release's objects by them, as Argo CD may, would
take these for left over.
*/}}
{{- define "countersign.kept" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/managed-by: countersign
{{- end -}}

{{- define "countersign.client" -}}
{{- $root := index . 0 -}}
clientConfig:
  service:
    name: {{ include "countersign.fullname" $root }}
    namespace: {{ $root.Release.Namespace }}
    path: {{ index . 1 }}
    port: 443
admissionReviewVersions: [v1]
{{- end -}}

{{- define "countersign.review" -}}
failurePolicy: {{ .Values.webhooks.failurePolicy }}
matchPolicy: Equivalent
sideEffects: NoneOnDryRun
timeoutSeconds: {{ .Values.webhooks.timeoutSeconds }}
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ include "countersign.excluded" . }}
{{- end -}}

{{/*
Whether an update may change an image: whether anything differs that can hold one, in any of the
built-in kinds. Whole lists and templates are compared, so more is called than has to be, and never
less; a field that is missing on both sides is equal. It is one condition, since of several a single
one that is false would skip.
*/}}
{{- define "countersign.changed" -}}
matchConditions:
- name: images-may-have-changed
  expression: >-
    request.operation != 'UPDATE'
    || object.?spec.?containers != oldObject.?spec.?containers
    || object.?spec.?initContainers != oldObject.?spec.?initContainers
    || object.?spec.?ephemeralContainers != oldObject.?spec.?ephemeralContainers
    || object.?spec.?volumes != oldObject.?spec.?volumes
    || object.?spec.?template != oldObject.?spec.?template
    || object.?spec.?jobTemplate != oldObject.?spec.?jobTemplate
    || object.?template != oldObject.?template
{{- end -}}

{{- define "countersign.podRule" -}}
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods, pods/ephemeralcontainers]
  operations: [CREATE, UPDATE]
  scope: Namespaced
{{- end -}}
