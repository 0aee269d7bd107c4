# `make run` and `make test` need Python 3.11 or newer with venv, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SCRIPTS := .ci/run deploy.sh
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run emulate pubsub test check pytest format properties mutants bench bench-quick clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(INSTALLED) ## serve receive on 127.0.0.1:8080 (PORT=8081 make run: elsewhere)
	@$(BIN)/python -m flowhook run

emulate: $(INSTALLED) ## serve the platform's webhook settings on 127.0.0.1:8090
	@$(BIN)/python -m flowhook emulate

pubsub: $(INSTALLED) ## serve receive and consume, with the Pub/Sub emulator between them
	@$(BIN)/python -m flowhook pubsub

test: check pytest ## every check and every test

check: $(INSTALLED) ## format, lint, types, shell scripts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/shellcheck $(SCRIPTS)

pytest: $(INSTALLED) ## the tests alone (PYTEST='-m "not browser"': some of them)
	$(BIN)/python -m pytest $(PYTEST)

properties: $(INSTALLED) ## the property tests with at least 10,000 generated requests
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/test_properties.py

mutants: $(INSTALLED) ## break the deployment in many ways, and see its stories notice each
	$(BIN)/python -m tests.deploy.mutants

bench: $(INSTALLED) ## flowhook beside what others do, in about 15 minutes (needs wrk and the Pub/Sub emulator)
	$(BIN)/python -m bench

bench-quick: $(INSTALLED) ## the same in about two minutes, less exact
	$(BIN)/python -m bench --quick

format: $(INSTALLED) ## mend what can be mended without a person
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what was installed
	rm -rf $(VENV)

$(INSTALLED): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flowhook needs Python 3.11 or newer: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
