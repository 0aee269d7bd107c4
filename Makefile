# `make run` and `make test` need Python 3.11 or newer with venv, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SCRIPTS := .ci/run deploy.sh
# What is installed: for running and for the tests of handlers, and on top of it for the checks and tests of
# flowhook itself.
RUNNING := $(VENV)/.running
TESTING := $(VENV)/.testing
# Beside the tools, so that two environments may be tested at once.
export COVERAGE_FILE := $(abspath $(VENV))/coverage
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# Lines and branches that the whole of the tests reaches, in percent. A part of them is held to nothing.
COVERED := $(if $(and $(REQUIRE_EMULATOR),$(if $(PYTEST),,all)),95,0)

# What depends on Python's version, those tests apart that take long.
VERSIONS := tests/handlers tests/http tests/pubsub tests/unit
# The tests of a file stay in one process and share what they start. Files begin in the order of their names, which
# has the long ones first.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run emulate pubsub test test-handlers quick check pytest versions format properties protobuf mutants bench bench-quick clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

run: $(RUNNING) ## serve receive on 127.0.0.1:8080 (PORT=8081 make run: elsewhere)
	@$(BIN)/python -m flowhook run

emulate: $(RUNNING) ## serve the platform's webhook settings on 127.0.0.1:8090
	@$(BIN)/python -m flowhook emulate

pubsub: $(RUNNING) ## serve receive and consume, with the Pub/Sub emulator between them
	@$(BIN)/python -m flowhook pubsub

test: check pytest ## every check and every test

test-handlers: $(RUNNING) ## the tests of your handlers alone, in tests/handlers/, with what was captured
	$(BIN)/python -m pytest --confcutdir=tests/handlers tests/handlers

quick: check ## the checks, and the tests that need no emulator, gcloud or browser
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow" tests/unit tests/http tests/handlers

check: $(TESTING) ## format, lint, types, shell scripts, workflows, Dockerfile
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

pytest: $(TESTING) ## the tests alone, with their coverage (PYTEST='-m "not browser"': some of them)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) --durations=10 $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under=$(COVERED)

versions: $(TESTING) ## what depends on Python's version, without coverage (PYTHON=python3.13 VENV=.venv-newest)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not gcloud and not browser" $(VERSIONS)

properties: $(TESTING) ## the property tests with at least 10,000 generated requests
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/unit/test_properties.py

protobuf: $(TESTING) ## generate flowhook/pubsub/publish_pb2.py from publish.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. flowhook/pubsub/publish.proto

mutants: $(TESTING) ## break the deployment in many ways, and see its stories notice each
	$(BIN)/python -m tests.deploy.mutants

bench: $(TESTING) ## flowhook beside what others do, in about 12 minutes (needs wrk, valgrind, the Pub/Sub emulator)
	$(BIN)/python -m bench

bench-quick: $(TESTING) ## the same in about three minutes, less exact, instructions apart
	$(BIN)/python -m bench --quick

format: $(TESTING) ## mend what can be mended without a person
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what was installed
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flowhook needs Python 3.11 or newer: make PYTHON=python3.13 ...")'
	@echo 'Installing into $(VENV), once: this takes about a minute.'
	$(PYTHON) -m venv $(VENV)

$(RUNNING): requirements.txt requirements-cli.txt $(wildcard handlers/requirements.txt) | $(BIN)/python
	$(PIP) -r requirements-cli.txt
	@touch $@

$(TESTING): requirements-dev.txt $(RUNNING)
	$(PIP) -r requirements-dev.txt
	@touch $@
