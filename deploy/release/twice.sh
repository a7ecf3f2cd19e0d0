#!/usr/bin/env bash
# Builds a release twice, each time from nothing but downloaded packages, and compares the bytes.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${CACHE:-$HOME/.cache/spiderpool}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)} # a commit meanwhile is no difference
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$cache/bin" "$cache/uv" "$cache/go" "$cache/bootstrap"
for turn in first second; do
  mkdir -p "$scratch/$turn/cache"
  for kept in bin uv go bootstrap; do ln -s "$cache/$kept" "$scratch/$turn/cache/$kept"; done
  CACHE=$scratch/$turn/cache "$root/deploy/release/release.sh" "$scratch/$turn/dist" >/dev/null
done
diff -r "$scratch/first/dist" "$scratch/second/dist"
cat "$scratch/second/dist/SHA256SUMS"
echo 'release: both builds have the same bytes'
