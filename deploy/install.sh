#!/usr/bin/env bash
# Installs Spiderpool in the running lab, or brings it up to date: image to all nodes, Helm chart, the lab's pools and networks.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export CACHE=${CACHE:-$HOME/.cache/spiderpool} PATH="$root/.venv/bin:$PATH"
namespace=kube-system

started=$SECONDS
say() { printf 'install: %s (%d s)\n' "$1" "$((SECONDS - started))"; }

image=$(deploy/image/build.sh)
version=$(sed -n "s/^appVersion: //p" deploy/chart/spiderpool/Chart.yaml)
content=$(basename "$image" .tar)
spiderlab load-image "spiderpool:$version" "$image"
say "image $content is on the nodes"

ipv6=false
families=$(spiderlab kubectl get nodes -o 'jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}')
if [[ $families == *:* ]]; then ipv6=true; fi

# The tag stays the same from build to build: the annotation makes pods of another content new ones.
spiderlab helm upgrade spiderpool deploy/chart/spiderpool --install --namespace "$namespace" --values deploy/lab/values.yaml \
  --set ipam.enableIPv6=$ipv6 \
  --set-string "spiderpoolAgent.podAnnotations.image=$content,spiderpoolController.podAnnotations.image=$content" \
  --wait --timeout 180s "$@" >/dev/null
say "agents and controllers are ready"

spiderlab kubectl apply -f deploy/lab/networks.yaml -f deploy/lab/pools.yaml >/dev/null
if $ipv6; then spiderlab kubectl apply -f deploy/lab/pools-ipv6.yaml >/dev/null; fi
say "pools and networks of the lab are there"
