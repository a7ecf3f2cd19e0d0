# The only list of tasks. `make lab` and `make test` are the two commands of the README.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE ?= $(HOME)/.cache/spiderpool
VENV  := .venv
BIN   := $(VENV)/bin
export UV_CACHE_DIR := $(CACHE)/uv-cache
export PYTHONDONTWRITEBYTECODE := 1

DEP_GROUPS := test check build bench

.PHONY: help env lock check

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

env: $(VENV)/.stamp ## Python environment by the lock file

$(VENV)/.stamp: requirements.lock pyproject.toml lab/pyproject.toml
	@deploy/env.sh "$(CACHE)" "$(VENV)"
	@touch $@

lock: ## write requirements.lock anew from pyproject.toml
	uv pip compile -q --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 $(DEP_GROUPS:%=--group %) pyproject.toml lab/pyproject.toml -o requirements.lock
