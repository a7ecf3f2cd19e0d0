#!/usr/bin/env bash
# Lab tests between real programs of others: Multus (the chart's default) and kube-router, in a lab of its own, ended afterwards.
# `test-peers.sh few`: the matrix, policies and NICs; without it: every story of several NICs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

stories=(peers attach coordinator networks)
[[ ${1:-} == few ]] || stories+=(
  bad_input capacity coordinator_object filters fixed leaks multusconfig node_settings pool_life reclaim sources
  spiderpoolctl subnets tables wire workloads crashes outages
)
spiderlab binaries multus kube-router
if spiderlab status --quiet; then
  echo 'A lab is running and stands in the way of these tests: ending it.'
fi
spiderlab down
trap 'spiderlab down >/dev/null' EXIT
spiderlab up --cni kube-router --meta multus
files=()
for story in "${stories[@]}"; do files+=("tests/lab/test_$story.py"); done
pytest -x -p no:randomly -m 'not soak' "${files[@]}"
