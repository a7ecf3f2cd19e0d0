#!/usr/bin/env bash
# Installs Spiderpool in the running lab, or brings it up to date: image to all nodes, Helm chart, the lab's pools and networks.
# It follows what the lab was started with: `spiderlab up --meta multus` gets the real Multus.
# Arguments are passed on to `helm upgrade`, such as `--set ipam.enableIPv6=false`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export CACHE=${CACHE:-$HOME/.cache/spiderpool} PATH="$root/.venv/bin:$PATH"
chart=deploy/chart/spiderpool namespace=kube-system

# Two installations at a time would undo each other's work: the second waits for the first.
exec {lock}>/run/spiderpool-install.lock
flock "$lock"

started=$SECONDS
say() { printf 'install: %s (%d s)\n' "$1" "$((SECONDS - started))"; }

# What Helm and kubectl say about things that are as they are meant to be.
known='found symbolic link in path|prefer a domain-qualified finalizer name'
quietly() { "$@" > >(cat >/dev/null) 2> >(grep -vE "$known" >&2); }

image=$(deploy/image/build.sh)
content=$(basename "$image" .tar)
spiderlab load-image "spiderpool:$(sed -n 's/^appVersion: //p' $chart/Chart.yaml)" "$image"
say "image $content is on the nodes"

ipv6=false
addresses=$(spiderlab kubectl get nodes -o 'jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}')
if [[ $addresses == *:* ]]; then ipv6=true; fi

# An installation that was cut off (nobody else is at it: we have the lock) keeps Helm from trying again.
if [[ -n $(spiderlab helm list --namespace $namespace --filter '^spiderpool$' --pending --short) ]]; then
  quietly spiderlab helm uninstall spiderpool --namespace $namespace --no-hooks --wait
  say "remains of an installation that was cut off are gone"
fi

# The tag stays the same from build to build: the annotation makes pods of another content new ones.
read -r cni meta < <(spiderlab peers)
values=(--values deploy/lab/values.yaml --set "ipam.enableIPv6=$ipv6")
if [[ $meta == multus ]]; then values+=(--values deploy/lab/values-multus.yaml); fi
if [[ $cni == kube-router ]]; then # `auto` knows the pod networks of Calico, Cilium and Flannel alone
  values+=(--set "multus.multusCNI.defaultCniCRName=$cni,coordinator.podCIDRType=cluster")
fi
quietly spiderlab helm upgrade spiderpool $chart --install --namespace $namespace "${values[@]}" \
  --set-string "spiderpoolAgent.podAnnotations.image=$content,spiderpoolController.podAnnotations.image=$content" \
  --wait --timeout 180s "$@"
say "agents and controllers are ready, with $cni and $meta"

# What a run of the lab's tests left that was cut off: a subnet would claim the pools below, and refuse their addresses.
quietly spiderlab kubectl delete spidersubnets --selector spiderpool-test=true --wait=false
manifests=(-f deploy/lab/networks.yaml -f deploy/lab/pools.yaml)
if $ipv6; then manifests+=(-f deploy/lab/pools-ipv6.yaml); fi
quietly spiderlab kubectl apply "${manifests[@]}"
say "pools and networks of the lab are there"
