# sitewright: the two commands are `make lab` and `make test`; both install what they need.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
SITEWRIGHT := $(VENV)/bin/sitewright

.PHONY: help setup tools lab lab-down lint test test-lab bench format

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.synced ## Debian packages and the Python environment (root)

$(VENV)/.synced: pyproject.toml uv.lock images/lab-packages.txt
	@./tools/setup.sh
	@touch $@

tools: setup ## build the pinned programs into the cache (half an hour, once)
	@$(PYTHON) -m tools build

lab: tools ## the whole site on this machine, up to a chat completion
	@$(SITEWRIGHT) lab up --deploy

lab-down: setup ## remove the lab and all it left
	@$(SITEWRIGHT) lab down

lint: setup ## ruff, mypy, ansible-lint, yamllint
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/yamllint --strict .
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/ansible-lint --offline -q

format: setup ## let ruff write the code
	@$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

test: tools ## unit, stack and contract tests, and those with the real engine
	@$(VENV)/bin/pytest -m "not lab"

test-lab: tools ## end to end in the lab (root): brings it up, breaks it, takes it down
	@$(VENV)/bin/pytest -m lab tests/lab

bench: tools ## figures as JSON lines
	@$(PYTHON) -m tests.bench
