# make run     everything from a fresh machine to a first trained model
# make test    lint, types and tests, as continuous integration runs them
# make format  rewrite the code in the project's style
# make gpu     GPU tests and GPU benchmarks, with the torch that PYTHON has, else in .venv; needs an NVIDIA GPU
# make clean   remove what the others made, .venv included
#
# PYTHON=python3.12 chooses the interpreter. Without a GPU,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves the download of the CUDA libraries.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --prefer-binary --disable-pip-version-check -c constraints.txt

.PHONY: run test format clean gpu gpu-marked gpu-kernels gpu-benchmark gpu-experiments

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

# A machine with a GPU often has its own torch, and sometimes no network: then nothing is installed.
gpu:
	@python='$(PYTHON)'; \
	"$$python" -c 'import hypothesis, pytest, torch, triton' 2>/dev/null || { \
	  python='$(BIN)/python'; $(MAKE) $(VENV)/installed-dev || exit 1; }; \
	"$$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { \
	  echo "make gpu needs an NVIDIA GPU, and the torch of $$python finds none" >&2; exit 1; }; \
	$(MAKE) -k gpu-marked gpu-kernels gpu-benchmark gpu-experiments GPU_PYTHON="$$python"

ON_GPU = PYTHONPATH='$(CURDIR)' TRITON_INTERPRET=0 $(GPU_PYTHON)

# Only the files that have such tests: the others may need what this machine does not have.
gpu-marked:
	$(ON_GPU) -m pytest -m cuda $$(grep -rl --include='test_*.py' 'mark\.cuda' tests)

gpu-kernels:
	$(ON_GPU) -m pytest tests/kernels/fused

gpu-benchmark:
	$(ON_GPU) benchmarks/kernels/main.py --out benchmarks/results/kernels.json

gpu-experiments:
	$(ON_GPU) benchmarks/cuda_experiments/main.py --out benchmarks/results/cuda_experiments.json

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
