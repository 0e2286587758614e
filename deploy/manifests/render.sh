#!/bin/sh
# Renders the chart into plain manifests, for who does not use Helm, into the directory given (default: this one). The result is
# kept beside it, and a test compares.
#
#   npm run manifests
set -eu
cd "$(dirname "$0")"
out=${1:-.}
helm=../setup/tools/node_modules/.programs/helm/helm
for part in registry rbac agent webhook; do
  {
    printf '# Rendered from deploy/helm/vl3 with deploy/manifests/values.yaml by `npm run manifests`; edit those.\n'
    "$helm" template vl3 ../helm/vl3 --namespace vl3-system --values values.yaml --show-only "templates/$part.yaml"
  } | sed '/^# Source: /d; /app.kubernetes.io\/managed-by: Helm/d; /helm.sh\/chart: /d' >"$out/$part.yaml"
done
