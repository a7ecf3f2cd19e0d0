//go:build tools

// Package kuberouter names kube-router's program, so that go.mod and go.sum pin it with all it needs.
package kuberouter

import _ "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
