#!/usr/bin/env bash
# Static checks: style, types, layers, a sentence for each test, vet of the Go modules.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '== %s\n' "$*"; "$@"; }

step ruff check -q .
step ruff format -q --check .
step mypy -p spiderpool -p spiderlab
step lint-imports --no-cache
step interrogate -q tests
for module in shim lab/go/cni; do
  (cd "$module" && step go vet ./...)
done
