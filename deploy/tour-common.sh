# What all tours begin with; sourced by them. Each command is shown, then run.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
KUBECONFIG=$(spiderlab kubeconfig)
export KUBECONFIG
PATH=$(dirname "$(spiderlab path kubectl)"):$PATH

started=$SECONDS
title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
