# Every command that a contributor needs; `make` alone lists them.
# Another Python, beside the first:  make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
UV ?= uv
LOCK_FLAGS ?=

BIN := $(VENV)/bin
# A stamp is newer than what it was installed from, so nothing is installed twice. The dev lock
# holds the run lock, so its stamp counts for both.
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.PHONY: help demo test check test-slow format bench lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(RUN_STAMP) ## Show Undercroft at work; no model and no key needed
	@$(BIN)/undercroft demo

test: check ## Check everything that must hold before a merge
	$(BIN)/python -m pytest

check: $(DEV_STAMP) ## Run the linters and the type checker, no tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test-slow: $(DEV_STAMP) ## Run the slow tests, and only those
	$(BIN)/python -m pytest -m slow --timeout 1200

format: $(DEV_STAMP) ## Lay out the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP) ## Measure Undercroft against the floor
	$(BIN)/python -m bench

lock: ## Write both locks anew; needs uv (newer versions: LOCK_FLAGS=--upgrade)
	$(COMPILE) --group dev --output-file requirements-dev.lock $(LOCK_FLAGS)
	$(COMPILE) --group build --output-file requirements-run.lock --constraint requirements-dev.lock

clean: ## Remove the environment, caches and build output
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The run lock is resolved under the dev lock, so that the two never disagree.
COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"

# Every file that is fetched is pinned by hash: no resolving, and no build environment of its own.
define install
@echo "Installing $(1) into $(VENV)"
@$(PIP) install --quiet --require-hashes --no-deps --requirement $(1)
@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
endef

# A Python that cannot put pip into an environment (some systems split that off) lends its own.
PIP = $$(if $(BIN)/python -m pip --version >/dev/null 2>&1; then echo $(BIN)/python -m pip; \
	else echo $(PYTHON) -m pip --python $(BIN)/python; fi) --disable-pip-version-check

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "$(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear --without-pip $(VENV)

$(RUN_STAMP): requirements-run.lock pyproject.toml $(BIN)/python
	$(call install,requirements-run.lock)
	@touch $(RUN_STAMP)

$(DEV_STAMP): requirements-dev.lock pyproject.toml $(BIN)/python
	$(call install,requirements-dev.lock)
	@touch $(RUN_STAMP) $(DEV_STAMP)
