# The first that is there and of a version that is supported; `make PYTHON=...` names another.
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(if $(call supported,$(name)),$(name))))
PROFILE ?= default
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP_ARGS ?=

IS_SUPPORTED := import sys; print("yes" if (3, 11) <= sys.version_info < (3, 14) else "")
supported = $(if $(1),$(shell $(1) -c '$(IS_SUPPORTED)' 2>/dev/null))

# Processes that run out of tests take some from those that have not.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: reproduce test check lint clean

reproduce: $(VENV)/.installed
	$(BIN)/python -m pytest -m reproduce --profile $(PROFILE) $(ARGS)

test: $(VENV)/.installed
	$(PYTEST) $(ARGS)

# Before each commit, in less than a minute.
check: lint
	$(PYTEST) -q -m "not reproduce and not slow" tests/unit $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Only a finished installation has the mark; one that was interrupted begins anew.
$(VENV)/.installed: pyproject.toml
	$(if $(call supported,$(PYTHON)),,$(error $(or $(PYTHON),there) is no Python 3.11 to 3.13: name one, as in make PYTHON=python3.12))
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) $(VENV)
	rm -f $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .runs results
