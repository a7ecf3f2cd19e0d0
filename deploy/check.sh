#!/usr/bin/env bash
# Static checks: style, types, layers, a sentence for each test, pages that are made from their sources.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '== %s\n' "$*"; "$@"; }

step ruff check -q .
step ruff format -q --check .
step mypy -p spiderpool -p spiderlab -p deploy.image -p deploy.chart -p deploy.release -p deploy.reference -p bench -p tests
step lint-imports --no-cache
step interrogate -q tests
step python -m deploy.chart.values --check
step python -m deploy.reference --check
