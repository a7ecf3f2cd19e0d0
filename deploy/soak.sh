#!/usr/bin/env bash
# New examples for the laws, then long stories with many pods, by hand; uses the running lab, or starts one and leaves it running.
set -euo pipefail
cd "$(dirname "$0")/.."
LAWS=search pytest -q tests/unit
spiderlab status --quiet || make --no-print-directory lab-up
SPIDERLAB_KEEP=1 exec pytest -s -m soak tests/lab
