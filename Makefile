# Everything happens in .venv; the targets of the comparisons have virtualenvs of their own in .venvs.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test lint types tests wheel audit bench rivals integration clean

# A sync of CircleCI, or without a config.json of one of our own on loopback, into a real target.
run: .venv/ready
	$(BIN)/python -m demo

# What CI runs.
test: lint types tests wheel

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Known vulnerabilities of what we depend on; asks a service, so it is not part of lint.
audit: .venv/ready
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

types: .venv/ready
	$(BIN)/mypy

tests: .venv/ready
	$(BIN)/python -m pytest

# The wheel alone, without this folder, must discover all streams.
wheel: .venv/ready
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	$(PYTHON) -m venv --clear .venvs/wheel
	.venvs/wheel/bin/pip install --quiet dist/*.whl
	cd .venvs/wheel && bin/tap-circleci --discover | bin/python -c "import json, sys; assert len(json.load(sys.stdin)['streams']) == 11"
	rm -rf build

# Against real targets, Meltano and Airflow.
integration: .venv/ready
	$(BIN)/python -m pytest tests/integration

# How fast, how large, how many calls. Nothing here is a test.
bench: .venv/ready
	$(BIN)/python -m benchmarks

# Side by side with the other taps for CircleCI.
rivals: .venv/ready
	$(BIN)/python -m benchmarks.rivals

.venv/ready: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venvs build dist run *.egg-info .*_cache
