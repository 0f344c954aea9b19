# Needs make, and Python 3.11 or later with its venv module. All else goes into .venv.
#
#   make help       prints these lines; so does make alone
#   make run        serves in the foreground, with the built-in default configuration
#   make test       runs the default tests
#   make test-slow  runs the tests that take more than a second or two each
#   make test-full  runs every test, with long durations in full
#   make check      checks style, types and import contracts
#   make bench      measures unpd beside its peers, in 25 minutes
#                   (tests/benchmarks/README.md)
#   make bench-quick
#                   measures unpd alone, in 40 seconds
#   make test-packaging
#                   tests the packages, the wheel too, and the deb in a booted Debian 12 and
#                   13, in 7 minutes; needs root, mmdebstrap, systemd-container, dnf
#   make test-wheel runs the default tests against the installed wheel; WHEEL_PYTHON=...
#                   is the Python that gets it, by default that of .venv
#   make test-kubernetes
#                   tests the image and the manifests on a cluster, in five minutes (the
#                   first time fifteen); needs root (tests/kubernetes/README.md)
#   make deb, make rpm
#                   build a package in dist/, with SHA256SUMS (packaging/README.md)
#   make image      builds the container image in dist/ (packaging/README.md); needs root
#   make test-image tests the image with podman, in 4 minutes; needs root
#   make manual     renews the tables of the manual from those of the program
#   make dashboard  renews the dashboard for Grafana from the metrics of the program
#   make prometheusrule
#                   renews the PrometheusRule for Kubernetes from the alert rules
#   make pictures   renews the pictures in docs/ by those of the tests, in 22 minutes
#   make clean      removes .venv and the caches
#
# PYTHON=... chooses the interpreter. ARGS=... goes to pytest, to the benchmark, or to
# the build of a package.

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Where it is set, each Python that a test starts compiles unpd again, for 0.2 s or more.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help run test test-slow test-full check test-packaging test-wheel test-image \
	test-kubernetes bench bench-quick deb rpm image manual dashboard prometheusrule \
	pictures clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//; p' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/runtime.stamp
	@exec $(BIN)/unpd run --builtin

test: $(VENV)/tests.stamp
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal \
		-m "not slow and not full and not benchmarks and not packaging and not kubernetes" $(ARGS)

test-slow: $(VENV)/tests.stamp
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal \
		-m "slow and not full and not benchmarks and not packaging and not kubernetes" -o timeout=600 $(ARGS)

test-full: $(VENV)/tests.stamp
	@UNPD_TEST_SCALE=1 $(BIN)/python -m pytest -m "not benchmarks and not packaging and not kubernetes" \
		-o timeout=1800 $(ARGS)

# ARGS goes to pytest here, not to the build. Each Debian has a process of its own. The
# rpm is built beforehand too, because a test that builds it has no package index.
test-packaging: $(VENV)/packaging.stamp
	@packaging/install check
	@$(MAKE) --no-print-directory deb rpm ARGS=
	@$(BIN)/python -m pytest -m packaging -o timeout=600 --numprocesses 2 --dist loadscope \
		tests/packaging $(ARGS)

test-wheel: $(VENV)/tests.stamp
	@PYTHON='$(WHEEL_PYTHON)' packaging/test-wheel $(ARGS)

# As above.
test-image: $(VENV)/tests.stamp
	@packaging/install check-image
	@$(MAKE) --no-print-directory image ARGS=
	@$(BIN)/python -m pytest -m packaging -o timeout=600 tests/image $(ARGS)

# As above.
test-kubernetes: $(VENV)/tests.stamp
	@$(MAKE) --no-print-directory image ARGS=
	@tests/kubernetes/run $(BIN)/python $(ARGS)

check: $(VENV)/checks.stamp
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@MYPYPATH=packaging $(BIN)/mypy $(sort $(wildcard packaging/*.py))
	@$(BIN)/lint-imports

# The Debian packages come first, because the virtual environment may need their Python.
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

image: $(VENV)/bin/python
	@packaging/install image
	@$(BIN)/python packaging/image.py $(ARGS)

manual: $(VENV)/runtime.stamp
	@$(BIN)/python packaging/manual.py

dashboard: $(VENV)/runtime.stamp
	@$(BIN)/python packaging/dashboard.py

prometheusrule: $(VENV)/bin/python
	@$(BIN)/python packaging/prometheusrule.py

pictures: $(VENV)/tests.stamp
	@tests/browser/install
	@UNPD_TEST_SCALE=1 $(BIN)/python -m pytest -o timeout=1800 \
		tests/browser/test_status_page.py::test_pictures \
		tests/integration/test_top.py::test_a_picture_of_a_busy_daemon $(ARGS)
	@cp build/pictures/status-light.png docs/status-page.png
	@cp build/pictures/top.svg docs/

clean:
	rm -rf $(VENV) build dist unp.trace .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find unpd tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The recipe asks the interpreter for its own path: PATH may lead to the shell script of
# a version manager, which may fail, or hide the real program. Where root has not chosen
# one, it is one that every user can start, because unpd and its tests drop their rights.
CANDIDATES := $(or $(PYTHON),python3.11 python3 /usr/bin/python3.11 /usr/bin/python3)
OWN_PATH := import ensurepip, os, pathlib, sys, venv; \
	own = pathlib.Path(sys.executable); \
	above = {*own.parents, *own.resolve().parents}; \
	closed = [p for p in above if not p.stat().st_mode & 1]; \
	usable = "$(PYTHON)" or os.geteuid() != 0 or not closed; \
	print(sys.executable if usable and sys.version_info >= (3, 11) else "")
$(VENV)/bin/python:
	@for candidate in $(CANDIDATES); do \
		real=$$("$$candidate" -c '$(OWN_PATH)' 2>/dev/null) || real=; \
		if [ -n "$$real" ]; then "$$real" -m venv $(VENV) && exit 0; rm -rf $(VENV); exit 1; fi; \
	done; \
	echo 'unpd needs Python 3.11 or later with its venv module' \
		'(on Debian: apt install python3-venv), for root one that every user can start;' \
		'none of these is one: $(CANDIDATES)' >&2; exit 1

# The stamps keep repeated runs quick and offline. unpd itself is installed editable, so
# only pyproject.toml can make a stamp old.
$(VENV)/runtime.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd needs into $(VENV)'
	@$(PIP) install --editable '.[top]'
	@touch $@

$(VENV)/tests.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd and its tests need into $(VENV)'
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/runtime.stamp

$(VENV)/packaging.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd and the tests of its packages need into $(VENV)'
	@$(PIP) install --editable '.[test,packaging]'
	@touch $@ $(VENV)/tests.stamp $(VENV)/runtime.stamp

$(VENV)/checks.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing what unpd, its tests and checks need into $(VENV)'
	@$(PIP) install --editable '.[test,check]'
	@touch $@ $(VENV)/tests.stamp $(VENV)/runtime.stamp

$(VENV)/bench.stamp: pyproject.toml tests/benchmarks/requirements.txt | $(VENV)/bin/python
	@echo 'installing what unpd and its benchmark need into $(VENV)'
	@$(PIP) install --editable . --requirement tests/benchmarks/requirements.txt
	@touch $@ $(VENV)/runtime.stamp
