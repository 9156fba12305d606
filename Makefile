# `make demo` and `make test` create .venv if it does not exist.
PYTHON ?= python3
BIN := .venv/bin
PATIENTS ?= 200
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile \
  --constraint constraints.txt

.PHONY: setup demo test test-slow test-lab check format docs clean

setup: .venv/ready

# pip would compile every module to bytecode on one core, which takes as long as the rest. compileall
# uses all cores and skips tests and models that the project does not import; it fails for files of
# other packages that are not valid Python.
#
# momentfm is installed without its dependencies: its newest release pins numpy 1.25,
# transformers 4.33 and huggingface-hub 0.24, but it also runs on the versions pinned here.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[dev]'
	$(PIP_INSTALL) --no-deps momentfm
	-$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing|models|_inductor)/' .venv/lib
	touch $@

demo: setup
	$(BIN)/enecg synthesize data/demo --patients $(PATIENTS) --seed 0
	$(BIN)/enecg extract --dataset mimic-iv-ecg:data/demo --store stores-data/lab --experts dlinear,timesnet,moment,measurements --weights random:0
	$(BIN)/enecg train --dataset mimic-iv-ecg:data/demo --store stores-data/lab --out runs/demo --weights random:0
	@echo "ECGs and tables: data/demo   stores: stores-data/lab   run: runs/demo   page: runs/demo/results.html"
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
	  $(BIN)/python -m webbrowser -t "file://$$PWD/runs/demo/results.html"; fi

# One process per core, one thread in each: torch's threads would compete for the cores. A process
# that has no tests left takes over half of another's. Bytecode is cached, because tests start many
# processes, each of which would compile the project again.
test: setup check
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist worksteal

test-slow: setup
	$(BIN)/pytest -m slow --timeout 1800

# Postgres, a Prefect server, a worker, a Dask cluster and an S3 server (SeaweedFS) on loopback.
test-lab: setup
	$(PIP_INSTALL) --editable '.[lab]'
	$(BIN)/pytest -m lab --log-level INFO tests/lab

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache
