# Every task of this repository. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
WEB := clients/web
# For what looks for its plugins on PATH.
WITH_VENV := PATH="$(abspath $(BIN)):$$PATH"
# Further arguments for a target's command: `make test ARGS="tests/unit -x"`.
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up test test-slow chaos generate web docs lint format lock bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make .venv with everything in it (PYTHON=... chooses the interpreter)

demo: setup ## Start a whole mesh, count primes on it, watch it live
	$(BIN)/tallymesh demo $(ARGS)

up: setup ## Start a whole mesh on this machine and keep it running
	$(BIN)/tallymesh up $(ARGS)

test: setup ## Run the default tests (what needs a missing tool skips; under CI it fails)
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

test-slow: setup ## Run the tests that take long
	$(BIN)/pytest -m slow $(ARGS)

chaos: setup ## Let everything go wrong for some minutes, and check every sum
	$(BIN)/pytest -m slow -s tests/faults/test_chaos.py $(ARGS)

generate: setup ## Derive stubs and descriptor set from protos/ (Go's where go is, TypeScript's where npm is)
	$(WITH_VENV) python -m tools.generate
	@command -v go >/dev/null || echo "go is missing: the Go stubs stay as they are"
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(WEB)/src/gen; \
	else echo "npm is missing: the TypeScript stubs stay as they are"; fi

web: $(WEB)/node_modules/.package-lock.json ## Check and test the page, and build it into dist/
	npm --prefix $(WEB) run check
	npm --prefix $(WEB) test
	npm --prefix $(WEB) run build

docs: setup ## Build the documents as a site (build/site/index.html)
	$(BIN)/sphinx-build -q -W --keep-going docs build/site

lint: setup ## Check style, types, import rules and protos
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos

format: setup ## Format Python and protos
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write protos

lock: setup ## Resolve requirements.lock afresh (UPGRADE=1 takes the newest versions)
	$(BIN)/uv pip compile -q pyproject.toml --group dev --group bench --extra embedded --extra primes \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --no-annotate --no-emit-package tallymesh-client $(if $(UPGRADE),--upgrade) \
	  -o requirements.lock

bench: setup ## Measure the mesh (see bench/)
	$(BIN)/python -m bench $(ARGS)

clean: ## Remove what can be made again (not .venv)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path '*/node_modules/*' \
	  -prune -exec rm -rf {} +

# The dependencies change with the lock, the editable installs with the pyprojects; each step is
# repeated only then, and the second one needs no network.
$(VENV)/.locked: requirements.lock
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml clients/python/pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
	  -e . -e clients/python
	$(BIN)/python -c "from tools.generate import copy_third_party; copy_third_party()"
	@touch $@

# The page's stubs are made by buf, which .venv has, with the plugin that node_modules has.
.PHONY: $(WEB)/src/gen
$(WEB)/src/gen: $(WEB)/node_modules/.package-lock.json
	$(WITH_VENV) npm --prefix $(WEB) run generate

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	npm --prefix $(WEB) ci
	@touch $@
