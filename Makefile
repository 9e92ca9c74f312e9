PYTHON ?= python3
PROFILE ?= default
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: reproduce test lint clean

reproduce: $(VENV)/.installed
	$(BIN)/python -m pytest -m reproduce --profile $(PROFILE) $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .runs results
