# `make demo` and `make test` are all that a fresh machine needs: each makes .venv if it is missing.
# Needed: GNU make and Python 3.11 or later with venv (Debian: apt-get install python3-venv).

PYTHON ?= python3
VENV ?= .venv
# Flags for pip, such as PIP_FLAGS="--index-url https://..." for a mirror or for CPU-only wheels.
PIP_FLAGS ?=
# Test workers, each with one torch thread; the tests that compare thread counts set their own.
JOBS ?= 2
# Flags for pytest, such as ARGS="-k likelihood".
ARGS ?=
OUT ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Threads that wait asleep: with a second program on few cores, spinning ones cost ten times the work.
WAIT := OMP_WAIT_POLICY=PASSIVE
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# The tests start a hundred processes, which need not compile the package each for itself.
KEEP := PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: docs help setup demo test test-slow lint format bench gpu clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null \
		|| grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST)

setup: $(STAMP) ## the environment in .venv: what tests, benchmarks and the demo need

# One stamp for every extra: a target that installs only its own share would install torch's world
# in pieces, and the pieces could disagree.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is older than 3.11 or missing: write make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments: on Debian or Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		echo "== making $(VENV)"; $(PYTHON) -m venv $(VENV); fi
	@echo "== installing sdekit and its tools into $(VENV) (torch is large: the first time takes minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP) ## train on real digits, sample, score held-out digits; pictures and a table in demo/
	@$(WAIT) $(BIN)/sdekit demo --out demo

test: $(STAMP) ## the tests, without those marked slow or gpu
	@$(THREADS) $(KEEP) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

test-slow: $(STAMP) ## the long tests: statistics on 10^8 normals and the like
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

docs: $(STAMP) ## docs/solvers.md and the pictures of the docs, measured anew (some minutes)
	@$(THREADS) $(BIN)/python docs/make_solvers.py
	@$(THREADS) $(BIN)/python docs/pictures/fokker_planck.py

lint: $(STAMP) ## formatting, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP) ## rewrite the files as `make lint` wants them
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## sdekit beside its rivals on the same work; tables in benchmarks/results/
	@$(BIN)/python benchmarks/run.py

# Runs on the Python, torch and triton that a GPU machine has: no .venv, no network.
gpu: ## on a machine with a GPU: tests, bandwidth, bit equality; make gpu OUT=folder
	@test -n "$(OUT)" || { echo "make: say where the results go: make gpu OUT=folder" >&2; exit 2; }
	@PYTHONPATH=.:kernels $(PYTHON) benchmarks/gpu.py --out "$(OUT)"

clean: ## remove .venv, caches and the demo's output
	@rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
	@find sdekit kernels tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
