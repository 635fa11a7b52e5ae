# Two commands on a fresh machine: `make demo` runs the main job, `make test` the tests. `make docs` builds the site.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs clean

demo: $(STAMP)
	$(BIN)/bayes-ir run one-bit-digit --kernel QCSSGMPlus --draws 16 --chains 4 --seed 0 --out runs/one-bit-digit

# One process to a core and one thread to a process: the tensors of most tests are too small to share.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Linters; the type checker runs on the wings as they are installed, joined in one package.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typecheck
	$(BIN)/pip install --quiet --no-deps --target build/typecheck .
	cd build/typecheck && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p bayes_ir

# The site, into build/site; a warning is an error (--quiet would drop them uncounted). The reference is read from the
# wings as they are installed. Search needs a server: `python -m http.server -d build/site`.
docs: $(STAMP)
	rm -rf build/docs-site
	$(BIN)/pip install --quiet --no-deps --target build/docs-site .
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) build runs
