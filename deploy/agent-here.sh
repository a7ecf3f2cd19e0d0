#!/usr/bin/env bash
# Runs the agent of one lab node from the working tree, in the place of its pod: `agent-here.sh NODE [PROGRAM WORDS…]`.
#
# The words go before the command, such as `python -m pdb -c continue`. The agent has the environment and the configuration of
# the installed ones, and serves the node's real CNI calls. Ctrl-C ends it, and the pod comes back.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
node=${1:?name a node of the lab, such as node2}
shift
kubectl() { spiderlab kubectl --namespace kube-system "$@"; }

scratch=$(mktemp -d)
# The DaemonSet wants nodes with this label; kubelet sets it when it starts, and not again.
back() {
  kubectl label node "$node" kubernetes.io/os=linux --overwrite >/dev/null
  rm -rf "$scratch"
}
trap back EXIT
kubectl label node "$node" kubernetes.io/os=none --overwrite >/dev/null
kubectl wait --for=delete pod --selector app.kubernetes.io/component=spiderpool-agent --field-selector "spec.nodeName=$node" \
  --timeout=60s

kubectl get configmap spiderpool-conf --output 'jsonpath={.data.conf\.yml}' >"$scratch/conf.yml"
# Variables with a value, one a line; what a pod's own fields would fill in follows below. The executables are on the node.
kubectl get daemonset spiderpool-agent --output 'jsonpath={range .spec.template.spec.containers[0].env[?(@.value)]}{.name}={.value}{"\n"}{end}' \
  >"$scratch/environment"
mapfile -t environment <"$scratch/environment"
environment+=(SPIDERPOOL_INSTALL_CNI=false SPIDERPOOL_POD_NAMESPACE=kube-system SPIDERPOOL_POD_NAME=agent-here
  "SPIDERPOOL_NODE_NAME=$node" "KUBECONFIG=$(spiderlab kubeconfig)" "PATH=$PATH")
echo "agent-here: the agent of $node runs from $PWD" >&2
spiderlab exec "$node" -- env "${environment[@]}" "$@" "$PWD/.venv/bin/spiderpool-agent" daemon --config-path "$scratch/conf.yml"
