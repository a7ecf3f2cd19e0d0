//go:build tools

// Package helm names the Helm command, so that go.mod and go.sum pin it with all it needs.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
