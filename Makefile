# Needs Python 3.11 or later with its venv module, and make. Everything else goes into .venv.
#
#   make run        the daemon in the foreground on its built-in default
#   make test       the default test run
#   make test-full  every test, long durations in full
#   make check      lint, types, import contracts
#   make bench      unpd beside its peers, 12 minutes (tests/benchmarks/README.md)
#   make bench-quick
#                   unpd alone, 30 seconds
#   make test-packaging
#                   the packages, and the deb in a booted Debian 12: 3 minutes; needs root, mmdebstrap, systemd-container
#   make deb, make rpm
#                   a package in dist/, with SHA256SUMS (packaging/README.md)
#   make manual     the tables of the manual page unpd(8), made anew from the program
#   make clean      removes .venv and the caches
#
# PYTHON=... chooses the interpreter; ARGS=... goes to pytest, or to the benchmark.

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: run test test-full check test-packaging bench bench-quick deb rpm manual clean

run: $(VENV)/runtime.stamp
	@exec $(BIN)/unpd run --builtin

test: $(VENV)/tests.stamp
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m "not full and not benchmarks and not packaging" $(ARGS)

test-full: $(VENV)/tests.stamp
	@UNPD_TEST_SCALE=1 $(BIN)/python -m pytest -m "not benchmarks and not packaging" -o timeout=1800 $(ARGS)

# ARGS is for pytest, not for the build.
test-packaging: $(VENV)/tests.stamp
	@packaging/install check
	@$(MAKE) --no-print-directory deb ARGS=
	@$(BIN)/python -m pytest -m packaging -o timeout=600 tests/packaging $(ARGS)

check: $(VENV)/checks.stamp
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/mypy packaging/build.py packaging/manual.py
	@$(BIN)/lint-imports

# Packages come first: one of them may be the Python that the virtual environment is made of.
bench:
	@tests/benchmarks/install full
	@$(MAKE) --no-print-directory $(VENV)/bench.stamp
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-quick:
	@tests/benchmarks/install quick
	@$(MAKE) --no-print-directory $(VENV)/bench.stamp
	@$(BIN)/python -m tests.benchmarks --quick $(ARGS)

deb rpm: $(VENV)/bin/python
	@packaging/install build
	@$(BIN)/python packaging/build.py $@ $(ARGS)

manual: $(VENV)/runtime.stamp
	@$(BIN)/python packaging/manual.py

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find unpd tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The interpreter is asked for its own path: what PATH finds may be a version manager's shell script, which may fail or hide the real program.
$(VENV)/bin/python:
	@for candidate in $(or $(PYTHON),python3.11 python3); do \
		real=$$("$$candidate" -c 'import ensurepip, sys, venv; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null) || real=; \
		if [ -n "$$real" ]; then "$$real" -m venv $(VENV) && exit 0; rm -rf $(VENV); exit 1; fi; \
	done; \
	echo 'unpd needs Python 3.11 or later with its venv module (on Debian: apt install python3-venv), and none of $(or $(PYTHON),python3.11 python3) is one.' >&2; exit 1

# The stamps keep repeated runs quick and offline; the package itself is installed editable, so that only pyproject.toml can make them old.
$(VENV)/runtime.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd needs into $(VENV)'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/tests.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd and its tests need into $(VENV)'
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/runtime.stamp

$(VENV)/checks.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd, its tests and checks need into $(VENV)'
	@$(PIP) install --editable '.[test,check]'
	@touch $@ $(VENV)/tests.stamp $(VENV)/runtime.stamp

$(VENV)/bench.stamp: pyproject.toml tests/benchmarks/requirements.txt | $(VENV)/bin/python
	@echo 'installing what unpd and its benchmark need into $(VENV)'
	@$(PIP) install --editable . --requirement tests/benchmarks/requirements.txt
	@touch $@ $(VENV)/runtime.stamp
