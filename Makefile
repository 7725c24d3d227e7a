# make sample      sets up what the program needs and extracts the features of the two clips in sample/
# make test        sets up what the tests need, too, and runs them; make test-fast leaves out the slow ones
# make fuzz        decodes damaged copies of media files by the thousand; prints the seed and where it keeps the copies
#                  that are not dealt with well. Others, or more: make fuzz FUZZ_SEED=7 FUZZ_NUMBER=5000
# make lint        runs ruff (lint and format) and mypy
# make benchmark   measures each stage, and the whole beside a plain version; takes some minutes
# make gpu         tests and measures a GPU, and prints a table of it (docs/gpu.md); takes some 7 minutes
# make lock        renews the lock files from pyproject.toml
# make clean       removes .venv and the caches of the tools
#
# A .venv that is a link to an environment of your own is used as it is: nothing is installed into it.

VENV := .venv
BIN := $(VENV)/bin

# The first Python that really runs, is 3.11 or newer and can make virtual environments.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: setup setup-dev sample test test-fast fuzz lint benchmark gpu lock clean

# Install a lock file and leave a copy of it in $(VENV), so that nothing is installed twice and a changed lock file is
# noticed. The last thing that venv makes is bin/pip: without it the environment is new or half made, and venv runs.
# Nothing is removed for that but the copies and the links to Python, which may lead to one that is gone.
define install
@if test -L $(VENV); then \
	$(BIN)/python -c "" 2>/dev/null || \
		{ echo "make: $(VENV) is a link, but not to a virtual environment: remove or mend the link" >&2; exit 1; }; \
elif ! { cmp -s $(1) $(VENV)/$(1) && $(BIN)/python -c "" 2>/dev/null; }; then \
	set -e; \
	test -n "$(PYTHON)" || \
		{ echo "make: no Python 3.11 or newer with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	echo "Installing $(1) into $(VENV): $(2), once"; \
	rm -f $(VENV)/$(1); \
	test -x $(BIN)/pip && $(BIN)/python -c "" 2>/dev/null || \
		{ rm -f $(BIN)/python* $(VENV)/*.lock; $(PYTHON) -m venv $(VENV); }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1); \
	cp $(1) $(VENV)/$(1); \
fi
endef

setup:
	$(call install,requirements.lock,6 GB with PyTorch and CUDA)

setup-dev: setup
	$(call install,requirements-dev.lock,another 2 GB)

sample: setup
	$(BIN)/python -m sample.extract_sample

test: setup-dev
	$(BIN)/python -m pytest

test-fast: setup-dev
	$(BIN)/python -m pytest -m "not slow"

fuzz: FUZZ_NUMBER := $(or $(FUZZ_NUMBER),1000)
fuzz: FUZZ_SEED := $(or $(FUZZ_SEED),$(shell date +%s))
fuzz: FUZZ_FOLDER := $(or $(FUZZ_FOLDER),tmp/fuzz)
fuzz: setup-dev
	@echo "FUZZ_SEED=$(FUZZ_SEED), $(FUZZ_NUMBER) copies of each kind for each test; what fails is kept in $(FUZZ_FOLDER)"
	FUZZ_SEED=$(FUZZ_SEED) FUZZ_NUMBER=$(FUZZ_NUMBER) FUZZ_FOLDER=$(FUZZ_FOLDER) $(BIN)/python -m pytest tests/media/test_fuzz.py

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: setup-dev
	$(BIN)/python -m benchmarks.pipeline

gpu: setup-dev
	$(BIN)/python -m benchmarks.gpu

# The program's versions follow from those of the tests' and linters' lock file, which has to suit more packages.
COMPILE = tmp/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" pyproject.toml
lock:
	$(PYTHON) -m venv tmp/uv
	tmp/uv/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --group dev --output-file requirements-dev.lock
	$(COMPILE) --constraint requirements-dev.lock --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
