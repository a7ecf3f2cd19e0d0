#!/usr/bin/env bash
# Makes the Python environment from requirements.lock: `env.sh CACHE VENV`. Installs uv into the cache when it is missing.
set -euo pipefail
cache=$1 venv=$2

if ! command -v uv >/dev/null; then
  if [ ! -x "$cache/bootstrap/bin/uv" ]; then
    echo "environment: installing uv into $cache/bootstrap"
    python3 -c 'import venv, ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
    python3 -m venv "$cache/bootstrap"
    "$cache/bootstrap/bin/pip" install -q uv
  fi
  PATH="$cache/bootstrap/bin:$PATH"
fi
echo "environment: packages of requirements.lock into $venv"
[ -x "$venv/bin/python" ] || uv venv -q --python 3.11 "$venv"
uv pip sync -q --compile-bytecode --python "$venv/bin/python" --require-hashes requirements.lock
uv pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e . -e lab
