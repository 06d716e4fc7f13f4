# make run     everything from a fresh machine to a first trained model
# make test    lint, types and tests, as continuous integration runs them
# make format  rewrite the code in the project's style
# make gpu     GPU tests and GPU benchmarks in nine minutes, with the torch that PYTHON has, else in .venv; skipped without
#              an NVIDIA GPU
# make gpu-wheels   fetches what such a machine needs besides torch and triton, where it has no network, into build/wheels
# make clean   remove what the others made, .venv included
#
# PYTHON=python3.12 chooses the interpreter. Without a GPU,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves the download of the CUDA libraries.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --prefer-binary --disable-pip-version-check -c constraints.txt

.PHONY: run test format clean gpu gpu-wheels

run: $(VENV)/installed
	$(BIN)/asyncpipe run

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A machine with a GPU often has its own torch, and sometimes no network: PYTHON=... is taken as it is, and nothing is
# installed. Without PYTHON it is python3 if that has what is needed, else .venv, which is made.
GPU_MODULES := click, hypothesis, numpy, pytest, rich, ruamel.yaml, torch, triton

gpu:
	@python='$(PYTHON)'; \
	if [ '$(origin PYTHON)' = file ] && ! "$$python" -c 'import $(GPU_MODULES)' 2>/dev/null; then \
	  python='$(BIN)/python'; $(MAKE) $(VENV)/installed-dev || exit 1; fi; \
	"$$python" benchmarks/gpu.py

gpu-wheels: $(VENV)/installed-dev
	@$(BIN)/python benchmarks/gpu_wheels.py --download build/wheels

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: installed again only when the dependencies may have changed.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing asyncpipe and its dependencies into $(VENV) (PyTorch is large; the first time takes a while)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing asyncpipe, its dependencies and the developer tools into $(VENV)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/installed

# A half-made environment is removed, or the next call would take it for a whole one.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "asyncpipe needs Python 3.11 or later; '$(PYTHON)' is not. Name another one: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@echo "Creating the virtual environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed: install the venv module (Debian, Ubuntu: apt install python3-venv)" >&2; \
	  echo "or name a Python that has it: make PYTHON=/path/to/python3" >&2; exit 1; }
