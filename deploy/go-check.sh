#!/usr/bin/env bash
# Vet and tests of the Go modules, with the Go that builds them.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOCACHE=$CACHE/go/build GOMODCACHE=$CACHE/go/mod GOFLAGS='-buildvcs=false -modcacherw -mod=readonly'
go=$(spiderlab go shim lab/go/cni)
for module in shim lab/go/cni; do
  (cd "$module" && "$go" vet ./... && "$go" test ./...)
done
