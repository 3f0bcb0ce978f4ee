# make demo         RIDE against its rivals on real digits: a table and a page, within ten minutes
# make check        the tests for development, within two minutes
# make test         all tests
# make coverage     all tests, with the coverage of branches and its floor
# make test-oldest  the tests for development with the oldest versions of all dependencies
# make lint         style and types
# make docs         the documentation as a site, in site/
# make bench        time the engines
# make native       only (re)build the fast CPU engine

PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo check test coverage test-oldest lint docs bench native clean

demo: $(VENV)/installed
	$(BIN)/ridefense evaluate --dataset digits --classifier digits-cnn \
	  --purifier none --purifier median --purifier tv-chambolle --purifier ride --preset fast \
	  --attack bpda --eps 0.1 --images 100 --out runs/demo
	@echo "The command is $(BIN)/ridefense; to call it as ridefense: source $(BIN)/activate"

check: $(VENV)/tested
	$(BIN)/python -m pytest -n 2

test: $(VENV)/tested
	$(BIN)/python -m pytest -n 2 -m ''

coverage: $(VENV)/tested
	$(BIN)/python -m pytest -n 2 -m '' --cov

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest -n 2 -W default --ignore tests/test_docs.py --ignore tests/test_repository.py

bench: $(VENV)/tested
	$(PIP) --group bench
	$(BIN)/python benchmarks/fitting.py --out runs/fitting.json
	$(BIN)/python benchmarks/table.py runs/fitting.json

docs: $(VENV)/tested
	$(BIN)/mkdocs build --quiet --strict --site-dir site

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

native: $(VENV)/installed
	$(PIP) --force-reinstall --no-deps ./native

clean:
	rm -rf $(VENV) $(OLDEST) runs/demo site

NATIVE := native/CMakeLists.txt native/pyproject.toml $(wildcard native/cpp/* native/src/*/*)

$(VENV)/installed: pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "ridefense needs Python 3.11 or later; say which: make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV); PyTorch is large, so the first time takes minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PIP) --editable '.[digits]'
	@$(PIP) --force-reinstall --no-deps ./native > $(VENV)/native.log 2>&1 || { \
	  echo "The native engine could not be built ($(VENV)/native.log says why): everything works,"; \
	  echo "but slowly. Install a C++17 compiler, as g++ or clang, and run: make native"; }
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) --group test --group docs --editable '.[all]'
	@touch $@

$(OLDEST)/installed: pyproject.toml constraints-oldest.txt $(NATIVE)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt \
	  --group core-test --editable '.[all]'
	$(OLDEST)/bin/python -m pip install --quiet ./native
	@touch $@
