#!/usr/bin/env bash
# Builds the container image and prints the path of its archive; see build.py.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export CACHE=${CACHE:-$HOME/.cache/spiderpool}
export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv} PATH="$root/.venv/bin:$CACHE/bin:$CACHE/bootstrap/bin:$PATH"
if ! command -v mmdebstrap >/dev/null; then
  echo "image: installing mmdebstrap" >&2
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap; } >&2
fi
cd "$root"
exec "$root/.venv/bin/python" -m deploy.image.build
