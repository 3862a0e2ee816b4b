# `make demo` and `make test` need nothing but Python 3.11 or newer: they make .venv themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: demo test lint bench torture clean

demo: $(VENV)/.core
	$(BIN)/hybrid-memory demo --docs README.md --docs docs

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	for program in query_embedding search add cold_start; do \
	  $(BIN)/python -m benchmarks.$$program || exit 1; done

# Kills, damages, floods and attacks stores, and other stacks beside it; about ten minutes.
# Ten times as much: make torture TORTURE=--nightly; into the documents: TORTURE=--write.
torture: $(VENV)/.torture
	$(BIN)/python -m tests.reliability $(TORTURE)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps, so that a change of what is to be installed installs it.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1), but Python 3.11 or newer is needed;" \
	    "name one: make $(firstword $(MAKECMDGOALS) test) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.made $(SOURCES)
	$(PIP) -e .
	@touch $@

$(VENV)/.torture: $(VENV)/.made $(SOURCES)
	$(PIP) -e '.[torture]'
	@touch $@ $(VENV)/.core

# torch on its own first: where a CPU build is offered beside the CUDA one, it is taken.
$(VENV)/.dev: $(VENV)/.made $(SOURCES)
	$(PIP) torch
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.core
