# What people type. Everything but help and clean sets up first; that takes milliseconds once it is done.
# EXTRAS=interop installs PyTorch, too, and the tests compare with it; EXTRAS=interop,ray also tests on a Ray cluster.
PYTHON := .venv/bin/python
export PYTHON EXTRAS

.PHONY: help setup quickstart test check bench clean

help:
	@echo "make quickstart  set everything up, then the whole road once: data, training, evaluation, report"
	@echo "make test        set everything up, then run all tests"
	@echo "make check       style and types: what has to be clean before a commit"
	@echo "make bench       speed, as a ratio to a named peer measured in the same run; not part of the tests"
	@echo "make clean       remove caches and .venv; runs/ stays"

setup:
	@scripts/setup.sh

quickstart: setup
	@.venv/bin/mindgeex quickstart

# Two processes, each a file of tests at a time; `.venv/bin/python -m pytest FILE` runs one alone.
test: setup
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	scripts/types.sh

bench: setup
	$(PYTHON) -m tests.benchmarks.tokenizer
	$(PYTHON) -m tests.benchmarks.dedup
	$(PYTHON) -m tests.benchmarks.corpus
	$(PYTHON) -m tests.benchmarks.sampling
	$(PYTHON) -m tests.benchmarks.decoding
	$(PYTHON) -m tests.benchmarks.training
	$(PYTHON) -m tests.benchmarks.growth
	$(PYTHON) -m tests.benchmarks.execution
	$(PYTHON) -m tests.benchmarks.raising

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
