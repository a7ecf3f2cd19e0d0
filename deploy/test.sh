#!/usr/bin/env bash
# All tests, cheapest first, stopping at the first failure: static checks, unit, chart, contract, lab. Pytest's closing line comes last.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
stage() { printf '\n=== %s  (%d s since the start)\n' "$1" "$((SECONDS - started))"; }
run() { make --no-print-directory "$1"; }

stage 'environment' && run env
stage 'static checks' && run check
stage 'unit tests, with coverage' && run coverage
stage 'chart' && run chart-check
stage 'CNI executable' && run go-check
stage 'Kubernetes, CNI plugins, helm, CoreDNS: built once, then from the cache' && run lab-binaries
stage 'contract tests' && run contract
stage 'image' && run image
stage 'lab tests'
if spiderlab status --quiet; then
  echo 'A lab is running and stands in the way of the tests: ending it.'
fi
spiderlab down # also what is left of one that was cut off
trap 'spiderlab down >/dev/null' EXIT
pytest -x -p no:randomly -m 'not soak and not peers' tests/lab
