#!/usr/bin/env bash
# New examples for the laws, then long stories with many pods, by hand, in the running lab or a new one; at last the
# stories of several NICs in a lab with real peers, which is ended.
set -euo pipefail
cd "$(dirname "$0")/.."
LAWS=search pytest -q tests/unit
spiderlab status --quiet || make --no-print-directory lab-up
SPIDERLAB_KEEP=1 pytest -s -m soak tests/lab
exec deploy/test-peers.sh
