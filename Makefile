# Everything happens in .venv; the targets of the comparisons have virtualenvs of their own in .venvs.

PYTHON ?= python3
BIN = .venv/bin
VERSION = $(shell sed -n 's/^    version="\(.*\)",$$/\1/p' setup.py)

.PHONY: run test lint types tests package sdist audit bench rivals integration docs lock release clean

# A sync of CircleCI, or without a config.json of one of our own on loopback, into a real target.
run: .venv/ready
	$(BIN)/python -m demo

# What every change needs; CI has a job for each part, and for more Pythons.
test: lint types tests package

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

types: .venv/ready
	$(BIN)/mypy

tests: .venv/ready
	$(BIN)/python -m pytest --numprocesses auto

# Source distribution and wheel. The wheel alone, without this folder, must discover all streams.
package: .venv/ready
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	$(PYTHON) -m venv --clear .venvs/wheel
	.venvs/wheel/bin/pip install --quiet dist/*.whl
	cd .venvs/wheel && bin/tap-circleci --discover | bin/python -c "import json, sys; assert len(json.load(sys.stdin)['streams']) == 11"
	rm -rf build

# The source distribution passes its own tests.
sdist: package
	rm -rf .venvs/sdist && mkdir -p .venvs/sdist
	tar -xzf dist/tap_circleci-$(VERSION).tar.gz --strip-components 1 -C .venvs/sdist
	$(MAKE) -C .venvs/sdist tests PYTHON=$(PYTHON)

# Known vulnerabilities of the installed packages; it asks a service, so it is not part of lint.
audit: .venv/ready
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

# Against real targets, Meltano, Airflow, and dbt on every warehouse. Programs are installed into .venvs once, and as root
# PostgreSQL, Chromium and Java as Debian's packages; what cannot be installed is skipped.
integration: .venv/ready
	$(BIN)/python -m pytest tests/integration

# Speed, memory, calls: figures, no tests.
bench: .venv/ready
	$(BIN)/python -m benchmarks

# Side by side with the other taps for CircleCI; with WRITE=--write into docs/comparison.md.
rivals: .venv/ready
	$(BIN)/python -m benchmarks.rivals $(WRITE)

# docs/streams.md and the settings of the Meltano example, from the code and the schemas.
docs: .venv/ready
	$(BIN)/python -m docs.generate

# The newest versions of the development tools that work with Python 3.10 and later, pinned.
lock:
	$(PYTHON) -m venv --clear .venvs/lock
	.venvs/lock/bin/pip install --quiet uv
	.venvs/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --extra dev --no-annotate \
		--custom-compile-command "make lock" --output-file dev.lock setup.py

# Tests, tags and uploads the version in setup.py, which needs a section in CHANGELOG.md.
release: test
	git diff --quiet HEAD
	grep -q '^## \[$(VERSION)\] - ' CHANGELOG.md
	git tag --annotate v$(VERSION) --message 'Release $(VERSION)'
	$(PYTHON) -m venv --clear .venvs/release
	.venvs/release/bin/pip install --quiet twine
	.venvs/release/bin/twine upload dist/*

.venv/ready: setup.py pyproject.toml dev.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint dev.lock pip setuptools
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint dev.lock --no-build-isolation --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venvs build dist run *.egg-info .*_cache
