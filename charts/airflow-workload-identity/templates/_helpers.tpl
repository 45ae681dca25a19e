{{/* The chart's name, or what the user calls it. */}}
{{- define "airflow-workload-identity.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of all objects. A release that is called like the chart does not say it twice. */}}
{{- define "airflow-workload-identity.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $both | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What tells the pods of this release from all others. It may never change: a Deployment's selector cannot. */}}
{{- define "airflow-workload-identity.selector" -}}
app.kubernetes.io/name: {{ include "airflow-workload-identity.name" . | toYaml }}
app.kubernetes.io/instance: {{ toYaml .Release.Name }}
{{- end -}}

{{- define "airflow-workload-identity.labels" -}}
{{ include "airflow-workload-identity.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "airflow-workload-identity.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "airflow-workload-identity.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name: name the ServiceAccount that the operator is to use, or leave serviceAccount.create true." .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The subject of every binding. */}}
{{- define "airflow-workload-identity.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "airflow-workload-identity.serviceAccountName" . | toYaml }}
  namespace: {{ toYaml .Release.Namespace }}
{{- end -}}

{{/* What the Azure webhook reads from the ServiceAccount when a pod starts. */}}
{{- define "airflow-workload-identity.azureAnnotations" -}}
{{- if ne .Values.azure.credential "managed-identity" -}}
azure.workload.identity/client-id: {{ required (include "airflow-workload-identity.noClientId" .) .Values.azure.clientId }}
{{- with .Values.azure.tenantId }}
azure.workload.identity/tenant-id: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "airflow-workload-identity.noClientId" -}}
azure.clientId: set it to the client ID of the identity that the operator itself signs in as:
  az identity show -g <group> -n <name> --query clientId -o tsv
"Before you install" in the chart's README has the commands that create one. To use the nodes' managed identity instead, set azure.credential to managed-identity.
{{- end -}}

{{- define "airflow-workload-identity.noImage" -}}
image.repository: no release of this chart has set it yet. Build the image, push it to a registry that your nodes can pull from, and name it:
  docker build -t <registry>/airflow-workload-identity:{{ .Chart.AppVersion }} . && docker push <registry>/airflow-workload-identity:{{ .Chart.AppVersion }}
  helm … --set image.repository=<registry>/airflow-workload-identity
{{- end -}}

{{- define "airflow-workload-identity.image" -}}
{{- required (include "airflow-workload-identity.noImage" .) .Values.image.repository -}}
:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Takes the context, an API of Prometheus and the value that asked for it. An alert that is silently not
there is worse than an installation that says so. */}}
{{- define "airflow-workload-identity.needs" -}}
{{- $context := index . 0 -}}
{{- $api := index . 1 -}}
{{- $value := index . 2 -}}
{{- if not ($context.Capabilities.APIVersions.Has $api) -}}
{{- fail (printf "%s: the cluster does not serve %s. Install what does first, or set the value to false. Without a cluster to ask (helm template), say that it is there: --api-versions %s" $value $api $api) -}}
{{- end -}}
{{- end -}}

{{/* The newest version of the admission policies for pods that the cluster serves; empty: none. */}}
{{- define "airflow-workload-identity.podPolicyApi" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1beta1
{{- end -}}
{{- end -}}
