# The only list of tasks. `make lab` and `make test` are the two commands of the README.
SHELL := /bin/bash
.DEFAULT_GOAL := help

export CACHE         ?= $(HOME)/.cache/spiderpool
export UV_CACHE_DIR  := $(CACHE)/uv
# uv is to trust whom the machine trusts, as pip and Go do.
export UV_SYSTEM_CERTS ?= 1
# The last folder has uv where the machine has none (deploy/env.sh).
export PATH          := $(CURDIR)/.venv/bin:$(PATH):$(CACHE)/bootstrap/bin
VENV       := .venv
DEP_GROUPS := test check build release

.PHONY: help lab lab-up lab-down lab-binaries tour-fixed-ips tour-coexistence test check unit coverage chart-check chart-values go-check contract bench soak test-peers image release release-check env lock crds reference

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# --- what a newcomer runs -------------------------------------------------------------------------------------------------

lab: lab-up ## start a Kubernetes of three nodes, install Spiderpool, show it
	@deploy/tour.sh

lab-down: env ## remove every trace of the lab
	@spiderlab down

tour-fixed-ips: lab-up ## fixed addresses that follow the application, in the lab
	@deploy/tour-fixed-ips.sh

tour-coexistence: lab-up ## pods of several CNIs in the lab: who reaches whom, before and after the one setting to change
	@deploy/tour-coexistence.sh

test: ## all tests: static checks, unit, chart, contract, lab
	@deploy/test.sh

# --- the parts ------------------------------------------------------------------------------------------------------------

lab-up: lab-binaries image
	@spiderlab up
	@deploy/install.sh

check: env ## static checks: style, types, layers, docstrings of tests, generated files
	@deploy/check.sh

unit: env ## unit tests: no root, no other programs, no Kubernetes
	@pytest -q -n auto --maxprocesses 4 tests/unit

coverage: env ## unit tests, and which lines of the product they reach (half as much work again)
	@pytest -q -n auto --maxprocesses 4 --cov --cov-report=term tests/unit

chart-check: env ## tests of the chart, rendered by Helm (built once), and of its scripts
	@spiderlab binaries helm
	@pytest -q -n auto --maxprocesses 4 tests/chart

fuzz: env ## 200,000 made-up texts of tenants: worst time and memory of each reader, by hand
	@python -W ignore -m tests.fuzz

go-check: env ## vet and tests of the CNI executable and of the lab's plugin
	@deploy/go-check.sh

contract: lab-binaries ## the store's contract against the fake and the real API server
	@pytest -q -n auto --maxprocesses 4 tests/contract

bench: lab-binaries image ## speed against the API server's own limit, in the running lab (starts one when there is none)
	@deploy/bench.sh

soak: lab-binaries image ## long stories with many pods, by hand
	@deploy/soak.sh

test-peers: lab-binaries image ## every story of several NICs with the real Multus and kube-router, in a lab of its own
	@deploy/test-peers.sh

lab-binaries: env ## Kubernetes, CNI plugins, helm, CoreDNS, from Go modules into the cache
	@spiderlab binaries

image: env ## the container image, without a container registry
	@deploy/image/build.sh

release: env ## image, chart, bill of materials and checksums into dist/
	@deploy/release/release.sh dist

release-check: env ## build a release twice and compare the bytes
	@deploy/release/twice.sh

env: $(VENV)/.stamp ## Python environment by the lock file

$(VENV)/.stamp: requirements.lock pyproject.toml lab/pyproject.toml deploy/chart/spiderpool/Chart.yaml deploy/env.sh
	@deploy/env.sh "$(CACHE)" "$(VENV)"
	@touch $@

lock: ## write requirements.lock anew from pyproject.toml
	uv pip compile -q --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 $(DEP_GROUPS:%=--group %) pyproject.toml lab/pyproject.toml -o requirements.lock

chart-values: env ## write values.yaml, its schema and its page anew from deploy/chart/keys.yaml
	@python -m deploy.chart.values

reference: env chart-values ## write the reference pages of values, CRDs, Events, metrics and commands anew from their sources
	@python -m deploy.reference

crds: env ## write deploy/crds anew from the types
	@python -m spiderpool.api.crd.schema deploy/crds
