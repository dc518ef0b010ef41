# One command per task, the same for people and for CI. `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/parley
MINIO  := $(CACHE)/bin/minio
# The last release of the server whose source is public, by its Go module version.
MINIO_MODULE := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
HELM   := $(or $(shell command -v helm),$(CACHE)/bin/helm)
HELM_MODULE := helm.sh/helm/v3/cmd/helm@v3.22.0
# Compiling takes longer than all else of a start: what is run here is compiled once and kept.
unexport PYTHONDONTWRITEBYTECODE
GROUPS := chat tts access client local release dev

.DEFAULT_GOAL := help
.PHONY: help setup demo test monitoring drills examples clients faults hostile check format bench minio lock web asyncapi recording trace page images images-offline wheel \
	compose-test k8s-test versions manifests live release version clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## the virtual environment .venv with everything locked

$(VENV)/.ready: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=")'
	@echo "Setting up $(VENV) (once; about 20 seconds with a warm package cache) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null \
	  || echo "uv is not to be had; pip does the same, more slowly."
	@if [ -x $(BIN)/uv ]; then \
	  VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt; \
	else \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt; \
	fi
	@$(BIN)/python -m compileall -q services shared local clients/python/parley
	@echo "$(CURDIR)/clients/python" >"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parley.pth"
	@touch $@

demo: setup  ## everything on this machine, one spoken turn, then a place to talk (ARGS=--once; ARGS=--fresh forgets)
	@$(BIN)/python -m local.demo $(ARGS)

# Seven, however few the cores: much of a test is waiting.
test: setup  ## the whole test suite
	$(BIN)/python -m pytest $(or $(ARGS),-n 7 --dist loadfile --no-loadscope-reorder)

faults: setup  ## kills, freezes and restarts, seeded (RUNS=30 CLUSTER_RUNS=8 SEED=1)
	$(BIN)/python -m tests.faults $(if $(RUNS),--runs $(RUNS)) \
		$(if $(CLUSTER_RUNS),--cluster-runs $(CLUSTER_RUNS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

hostile: setup  ## 10,000 hostile messages against running services, seeded (RUNS=10000 SEED=1)
	$(BIN)/python -m tests.hostile $(if $(RUNS),--messages $(RUNS)) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

monitoring: setup  ## alerts by promtool, the dashboard on a real Prometheus (Debian: prometheus); ARGS=tests/drills: drills too
	$(BIN)/python -m deploy.monitoring
	$(BIN)/python -m pytest -m monitoring tests/monitoring $(ARGS)

drills: setup  ## breaks a system on purpose, mends it by docs/runbooks.md (ARGS=--write for the table there)
	$(BIN)/python -m tests.drills $(ARGS)

examples: setup  ## each example as its user runs it (Node, Go and Chromium where they are)
	@test -x examples/fastapi/.venv/bin/uvicorn || { $(PYTHON) -m venv examples/fastapi/.venv && \
	  examples/fastapi/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r examples/fastapi/requirements.txt; }
	@! command -v npm >/dev/null || { cd examples/node && npm ci --silent && cd ../nextjs && npm install --silent --no-package-lock; }
	$(BIN)/python -m pytest -m examples tests/examples $(ARGS)

clients: setup  ## what the clients share with the services, copied from shared/
	$(BIN)/python clients/python/generate.py

check: setup  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

web: setup  ## the client of TypeScript and the page: contract, types, tests, web/dist (needs Node 20)
	$(BIN)/python clients/typescript/contract.py
	cd clients/typescript && npm ci && npm run check && npm test && npm run build
	$(BIN)/python -m pytest -m node tests/e2e/test_typescript.py
	cd web && npm ci && npm run check && npm test && npm run build

asyncapi: setup  ## docs/asyncapi.yaml, .json, .html and docs/schemas of the contract; validated (needs Node 20)
	$(BIN)/python docs/asyncapi/generate.py
	cd docs/asyncapi && npm ci && npm run validate && npm run render

recording: setup  ## docs/parley.cast and .svg, and the outputs in clients/python/README.md, of real runs
	$(BIN)/python docs/cli/record.py $(ARGS)

trace: setup  ## docs/trace.svg, of a real turn
	$(BIN)/python docs/traces/record.py

page: setup  ## the page in a real browser (needs Chromium)
	$(BIN)/python -m pytest -m page tests/e2e $(ARGS)

live: setup  ## the adapters against the real provider; needs TOGETHER_API_KEY
	$(BIN)/python -m pytest tests/live -s $(ARGS)

bench: setup  ## every figure with its goal, in one run (ARGS=--quick for a look)
	@$(BIN)/python -m bench $(ARGS)

minio: $(MINIO)  ## the real MinIO, built once from its Go module (needs Go; about 2.5 minutes)

$(MINIO):
	@command -v go >/dev/null || { echo "make minio needs Go; without it SeaweedFS is used"; exit 1; }
	@echo "Building MinIO into $(MINIO) (once; about 2.5 minutes) ..."
	@mkdir -p $(@D)
	GOBIN=$(@D) go install $(MINIO_MODULE)

$(HELM):
	@command -v go >/dev/null || { echo "make manifests needs helm, or Go to build it"; exit 1; }
	@echo "Building helm into $(HELM) (once; about 4 minutes) ..."
	@mkdir -p $(@D)
	GOBIN=$(@D) go install $(HELM_MODULE)

lock: setup  ## requirements/*.txt from pyproject.toml, with hashes
	@for group in $(GROUPS); do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	    --no-header --no-emit-index-url --group $$group -o requirements/$$group.txt; \
	done
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-emit-index-url -c requirements/local.txt images/emulator.in \
	  -o images/emulator.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-emit-index-url images/build.in -o images/build.txt

images:  ## the images, with docker or podman (CONTAINER=…)
	images/build.sh

version:  ## the version of pyproject.toml wherever else one stands (needs Node)
	images/version.sh

wheel: setup  ## dist/parley-….whl: the client for Python and its command line
	$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist clients/python
	@ls -l dist/parley-*.whl

release: setup  ## dist/: wheel, images of PLATFORMS, SBOMs, checksums, signature
	PYTHON=$(BIN)/python images/release.sh dist

images-offline: setup minio  ## the same without any registry: root, podman buildah runc debootstrap
	PYTHON=$(BIN)/python MINIO=$(MINIO) images/offline.sh

compose-test: setup  ## compose.yaml, offline, each container restarted in mid-turn
	$(BIN)/python -m deploy.runs.compose_test

k8s-test: setup  ## overlay local on the cluster of KUBECONFIG (IMAGES=nats=…,silo=… replaces images)
	$(BIN)/python -m deploy.runs.k8s_test

versions: setup  ## an upgrade and a rollback beside an older version, turns running (ARGS="--from REV")
	$(BIN)/python -m deploy.runs.versions $(ARGS)

manifests: setup $(HELM)  ## every overlay and the NATS chart, built and checked (kubectl or kustomize)
	HELM=$(HELM) $(BIN)/python -m pytest -m manifests tests/deploy $(ARGS)

clean:  ## removes the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
