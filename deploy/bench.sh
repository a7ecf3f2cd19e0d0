#!/usr/bin/env bash
# Benchmarks against the lab's API server; starts a lab when none runs. Arguments go to `python -m bench`.
set -euo pipefail
cd "$(dirname "$0")/.."
spiderlab status --quiet || make --no-print-directory lab-up
exec python -m bench "$@"
