#!/bin/sh
# Makes a join token for each node of a cluster that has not enrolled, and puts them into the Secret that its agents read with
# agent.enrolment=joinTokens; otherwise nodes enrol by themselves. To be run by an admin who may reach both clusters; tokens work
# once, for one node, for an hour. Run it again for nodes that are added.
#
#   join-tokens.sh REGISTRY_CONTEXT CLUSTER_CONTEXT [NAME_PREFIX]
#
# NAME_PREFIX is the chart's agent.namePrefix in that cluster. NAMESPACE, RELEASE (what its objects are called by) and SECRET may be set where they are
# not the chart's defaults. With a signer apart (registry.signer) tokens are made on this machine, which reaches registry and CA: VL3_ADMIN is then the
# file of the admin's credential, and vl3 on the PATH.
set -eu
registry=${1:?name the context of the cluster with the registry} cluster=${2:?name the context of the cluster whose nodes join}
prefix=${3:-}
namespace=${NAMESPACE:-vl3-system} release=${RELEASE:-vl3} secret=${SECRET:-vl3-join-tokens}

own=$(command -v vl3 || true)
vl3() {
  if [ -n "${VL3_ADMIN:-}" ]; then "${own:?put vl3 on the PATH, to make tokens with VL3_ADMIN}" "$@"; return; fi
  kubectl --context "$registry" --namespace "$namespace" exec "$release-registry-0" -- vl3 "$@"
}

known=$(vl3 node list -o json)
set --
for node in $(kubectl --context "$cluster" get nodes -o 'jsonpath={.items[*].metadata.name}'); do
  name=$prefix${node%%.*}
  case "$known" in *"\"name\": \"$name\""* | *"\"name\":\"$name\""*) continue ;; esac
  set -- "$@" "--from-literal=$node=$(vl3 token create --node "$name" --ttl 1h)"
done
[ $# -gt 0 ] || { echo 'all nodes have enrolled' >&2; exit 0; }
# Made anew as a whole: what was in it before has been used, or can be made again.
kubectl --context "$cluster" --namespace "$namespace" create secret generic "$secret" --dry-run=client -o yaml "$@" |
  kubectl --context "$cluster" --namespace "$namespace" apply -f -
