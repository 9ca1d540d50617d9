# Everything here needs Python 3.11+ with pip, and nothing else; .venv is made on first use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs clean

demo: .venv/.stamp
	$(BIN)/rapo demo

test: .venv/.stamp
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.stamp
	$(BIN)/sphinx-build -q -W --keep-going -d site/.doctrees docs site

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

.venv/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@
