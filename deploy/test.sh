#!/usr/bin/env bash
# All tests, cheapest first, stopping at the first failure: static checks, unit, contract, lab. Pytest's closing line comes last.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
stage() { printf '\n=== %s  (%d s since the start)\n' "$1" "$((SECONDS - started))"; }

stage 'environment'
make --no-print-directory env
stage 'static checks'
make --no-print-directory check
stage 'Kubernetes, CNI plugins, helm'
make --no-print-directory lab-binaries
if spiderlab status --quiet; then
  echo 'A lab is running and stands in the way of the tests: ending it.'
  spiderlab down
fi
stage 'image'
make --no-print-directory image
stage 'unit, contract and lab tests'
trap 'spiderlab down >/dev/null' EXIT
pytest -x -m 'not soak' tests
