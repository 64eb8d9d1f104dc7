# Everything runs in .venv, which `make demo`, `make test` and `make lint` set up by themselves.
PYTHON ?= python3
TORCH ?= torch -c constraints.txt
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-all lint audit bench bench-clustering clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/.installed  ## cluster real cells with gene knowledge, write the annotated file and the report
	$(BIN)/cellmodel demo --output artifacts/demo --home artifacts --overwrite

test: .venv/.installed  ## the tests that need nothing but this repository
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" -n 2 --dist loadscope

test-all: .venv/.installed  ## all tests, also the long ones and those on real data (GENEKB_TEST_DATA)
	$(PYTEST) -n 2 --dist loadscope

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: .venv/.installed  ## known vulnerabilities of what is installed, as far as the package registry tells
	$(BIN)/python benchmarks/audit.py

bench: .venv/.installed  ## time and memory on the real data (GENEKB_TEST_DATA), 15 minutes; fails where a budget is missed
	$(BIN)/python benchmarks/budgets.py --output results

bench-clustering: .venv/.installed  ## clusters of all recipes on the real data, hours; fails where a bar is missed
	$(BIN)/python benchmarks/bench_clustering.py --output results

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
