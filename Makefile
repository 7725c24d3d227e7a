# make sample   sets up and extracts features of the two clips in sample/
# make test     sets up and runs the tests
# make fuzz     makes damaged copies of media files by the thousand and decodes them; it prints the seed, and where it
#               keeps the copies that are not dealt with well. Others, or more: make fuzz FUZZ_SEED=7 FUZZ_NUMBER=5000
# make lint     ruff (lint and format) and mypy
# make benchmark  measures how fast each stage is, and all of it beside a plain version; some minutes
# make lock     renews requirements.lock from pyproject.toml

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The first Python that really runs, is 3.11 or newer and can make virtual environments.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: setup sample test test-fast fuzz lint benchmark lock clean

setup: $(INSTALLED)

$(INSTALLED): requirements.lock
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV): PyTorch with CUDA is several GB; this takes some minutes, once."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

sample: $(INSTALLED)
	$(BIN)/python -m sample.extract_sample

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

fuzz: FUZZ_NUMBER := $(or $(FUZZ_NUMBER),1000)
fuzz: FUZZ_SEED := $(or $(FUZZ_SEED),$(shell date +%s))
fuzz: FUZZ_FOLDER := $(or $(FUZZ_FOLDER),tmp/fuzz)
fuzz: $(INSTALLED)
	@echo "FUZZ_SEED=$(FUZZ_SEED), $(FUZZ_NUMBER) copies of each kind for each test; what fails is kept in $(FUZZ_FOLDER)"
	FUZZ_SEED=$(FUZZ_SEED) FUZZ_NUMBER=$(FUZZ_NUMBER) FUZZ_FOLDER=$(FUZZ_FOLDER) $(BIN)/python -m pytest tests/media/test_fuzz.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(BIN)/python -m benchmarks.pipeline

lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
