# Every command that a contributor needs; `make` alone lists them.
# Another Python, beside the first:  make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
UV ?= uv
LOCK_FLAGS ?=
# As many tests at once as there are cores; a file's tests stay together, for they share servers.
PARALLEL ?= -n auto --dist loadfile

BIN := $(VENV)/bin
# A stamp is newer than what it was installed from, so nothing is installed twice. The dev lock
# holds the run lock, so its stamp counts for both.
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed

# What cannot share an environment: each name has a lock, an environment beside the first, and a
# folder of tests (with _ for -); its extra has the same name, unless it is said otherwise.
FRAMEWORKS := models mcp langchain pydantic-ai openai-agents
EXTRAS_models := openai anthropic
# The first environment holds these two as well, and all their tests run there; so they are tried
# here again only in other versions.
TESTS_models :=
LOCKS ?= .
SUITES := $(FRAMEWORKS:%=test-%)
STAMPS := $(FRAMEWORKS:%=$(VENV)-%/.installed)

.DEFAULT_GOAL := help
.NOTPARALLEL: # the log is read from its end: there the tests sum up
.PHONY: help demo test test-main test-frameworks $(SUITES) test-newest test-oldest check test-slow \
	format bench lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@printf '  make %-16s %s\n' test-NAME 'Check one of: $(FRAMEWORKS)'

demo: $(RUN_STAMP) ## Show Undercroft at work; no model and no key needed
	@$(BIN)/undercroft demo

test: check test-frameworks test-main ## Check everything that must hold before a merge

check: $(DEV_STAMP) ## Run the linters and the type checker, no tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test-main: $(DEV_STAMP) ## Run all tests but the slow ones and those of the frameworks
	$(BIN)/python -m pytest $(PARALLEL)

test-frameworks: $(SUITES) ## Check each framework's adapter in the framework's environment

# The adapter and its tests, by the framework's own types, and the tests.
$(SUITES): test-%: $(VENV)-%/.installed
	$(VENV)-$*/bin/python -m mypy --config-file tests/frameworks/mypy.toml \
		--cache-dir .mypy_cache/$* $(call adapter,$*) $(call tests,$*)
	$(VENV)-$*/bin/python -m pytest $(PARALLEL) $(call tests,$*)

tests = tests/frameworks/$(subst -,_,$(1)) $(TESTS_$(1))
adapter = $(wildcard src/undercroft/adapters/$(subst -,_,$(1)) \
	src/undercroft/adapters/frameworks/$(subst -,_,$(1)) \
	src/undercroft/adapters/frameworks/$(subst -,_,$(1)).py)

test-newest: ## Check the adapters against the newest releases that are allowed; needs uv
	$(call unpinned,newest,--upgrade)

test-oldest: ## Check the adapters against the oldest releases that are allowed; needs uv
	$(call unpinned,oldest,--upgrade --resolution lowest-direct --constraint requirements-run.lock)

test-slow: $(DEV_STAMP) ## Run the slow tests, and only those
	$(BIN)/python -m pytest -m slow --timeout 1200 $(PARALLEL)

format: $(DEV_STAMP) ## Lay out the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP) ## Measure Undercroft against the floor
	$(BIN)/python -m bench

lock: $(FRAMEWORKS:%=lock-%) ## Write all locks anew; needs uv (newer versions: LOCK_FLAGS=--upgrade)
	$(COMPILE) --group dev --output-file requirements-dev.lock $(LOCK_FLAGS)
	$(COMPILE) --group build --output-file requirements-run.lock --constraint requirements-dev.lock

# No two of these locks must agree, so each is resolved alone.
.PHONY: $(FRAMEWORKS:%=lock-%)
$(FRAMEWORKS:%=lock-%): lock-%:
	@mkdir -p $(LOCKS)
	$(COMPILE) --group test-$* $(addprefix --extra ,$(or $(EXTRAS_$*),$*)) \
		--output-file $(LOCKS)/requirements-$*.lock $(LOCK_FLAGS)

clean: ## Remove the environments, caches and build output
	rm -rf $(VENV) $(FRAMEWORKS:%=$(VENV)-%) build dist .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	rm -rf $(foreach time,newest oldest,$(FRAMEWORKS:%=$(VENV)-$(time)-%))
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The run lock is resolved under the dev lock, so that the two never disagree.
COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"

# Lock elsewhere what is newest or oldest now, and test with that.
define unpinned
@$(MAKE) $(FRAMEWORKS:%=lock-%) LOCKS=build/$(1) LOCK_FLAGS="$(2)"
@$(MAKE) test-frameworks LOCKS=build/$(1) VENV=$(VENV)-$(1) TESTS_models=tests/models
endef

# Every file that is fetched is pinned by hash: no resolving, and no build environment of its own.
# Arguments: the environment, the lock.
define install
@echo "Installing $(2) into $(1)"
@$(call pip,$(1)) install --quiet --require-hashes --no-deps --requirement $(2)
@$(call pip,$(1)) install --quiet --no-deps --no-build-isolation --editable .
endef

# A Python that cannot put pip into an environment (some systems split that off) lends its own.
pip = $$(if $(1)/bin/python -m pip --version >/dev/null 2>&1; then echo $(1)/bin/python -m pip; \
	else echo $(PYTHON) -m pip --python $(1)/bin/python; fi) --disable-pip-version-check

$(BIN)/python $(FRAMEWORKS:%=$(VENV)-%/bin/python):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "$(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(@:%/bin/python=%) >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear --without-pip $(@:%/bin/python=%)

$(RUN_STAMP): requirements-run.lock pyproject.toml $(BIN)/python
	$(call install,$(VENV),requirements-run.lock)
	@touch $(RUN_STAMP)

$(DEV_STAMP): requirements-dev.lock pyproject.toml $(BIN)/python
	$(call install,$(VENV),requirements-dev.lock)
	@touch $(RUN_STAMP) $(DEV_STAMP)

$(STAMPS): $(VENV)-%/.installed: $(LOCKS)/requirements-%.lock pyproject.toml $(VENV)-%/bin/python
	$(call install,$(VENV)-$*,$<)
	@touch $@
