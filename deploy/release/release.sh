#!/usr/bin/env bash
# Writes a release into a folder: `release.sh OUT`. The same commit and the same packages of Debian give the same bytes.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "$1")
cd "$root"
export CACHE=${CACHE:-$HOME/.cache/spiderpool} PATH="$root/.venv/bin:$PATH"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
if [ -n "$(git status --porcelain)" ]; then
  echo 'release: there are changes that are not committed; the release has them, and nobody else can build it' >&2
fi
spiderlab binaries helm
image=$(deploy/image/build.sh)
exec python -m deploy.release "$image" "$out"
