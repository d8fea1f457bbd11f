# What one needs day by day. `make help` lists it.
.DEFAULT_GOAL := help
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help up test test-kube bench-kube check lint types fmt protos docs images bench fuzz clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

up: ## install what is missing and start the whole cluster here (Ctrl-C stops it)
	@tools/setup run
	@.venv/bin/lambent up $(ARGS)

test: ## install what is missing and pass the tests
	@tools/setup test
	$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

test-kube: ## the tests on the cluster of KUBECONFIG (or of KUBE, a program that makes one)
	@tools/setup test
	@KUBE="$(KUBE)" tools/test-kube $(ARGS)

bench-kube: ## measure on that cluster (some minutes); writes build/bench-kube.json
	@tools/setup test
	@KUBE="$(KUBE)" tools/test-kube --bench

check: test lint types ## tests, lint, types, import walls: all that must be green

lint: ## ruff, import walls, proto style
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/buf lint

types: ## mypy, strict
	.venv/bin/mypy

fmt: ## format, and mend what can be mended
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

protos: ## make lambent/v1 and lambent/internal/v1 from protos/
	$(PY) tools/protos.py

docs: ## make the generated pages of docs/reference, and those of the chart
	$(PY) -m tools.pages

# A program that makes a cluster for tests, and images for it; empty: none is made.
KUBE ?= $(wildcard ../shared/kube/kube)

# What builds an image: `BUILD CONTEXT -t NAME -f FILE --build-arg ...` is said. A docker without its daemon builds nothing.
BUILD ?= $(shell for tool in docker podman; do \
  if $$tool info >/dev/null 2>&1; then echo $$tool build; exit; fi; done; echo $(KUBE:%=% image-build))
REPOSITORY ?= lambent.local
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= $(VERSION)

images: ## build both images (BUILD='docker build', REPOSITORY=lambent.local, ARGS=--build-arg=NODE=true)
	@test -n "$(BUILD)" || { echo "make images: no docker nor podman here; say BUILD='docker build', or what else builds" >&2; exit 1; }
	for image in control worker; do \
	  $(BUILD) . -t $(REPOSITORY)/lambent-$$image:$(TAG) -f images/$$image/Dockerfile \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse --short HEAD) $(ARGS) || exit; \
	done

bench: ## measure against the baselines (a few minutes); writes build/bench.json
	@tools/setup test
	$(PY) -m tests.bench $(ARGS)

fuzz: ## malformed requests against both doors, for long (SECONDS=600)
	@tools/setup test
	$(PY) -m tests.fuzz --seconds $(or $(SECONDS),600)

clean: ## remove what was built; not the data
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
