# Everything a developer or a new user runs. `make help` lists the targets.
PYTHON ?= python3.11
BIN := .venv/bin
UPSTREAM ?=
RUN_ARGS ?=
WORKERS ?= 2

.PHONY: help run demo test check integration browser bench screenshots fmt docs lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); set PYTHON=…" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing pghold into .venv …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/developer: .venv/installed
	@echo "installing the development tools …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

tests/node/node_modules/installed: tests/node/package-lock.json
	@command -v npm >/dev/null || { echo "needs Node.js with npm, for the browser and login tests" >&2; exit 1; }
	@cd tests/node && npm ci --silent --no-audit --no-fund && touch node_modules/installed

run: .venv/installed ## start it: embedded PostgreSQL, or UPSTREAM=postgresql://…
	@$(BIN)/pghold run $(if $(UPSTREAM),--upstream '$(UPSTREAM)') $(RUN_ARGS)

demo: .venv/installed ## play the README's session by itself
	@$(BIN)/python -m proxy.demo

test: .venv/developer tests/node/node_modules/installed ## all tests, those with real PostgreSQL servers included
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

integration: .venv/developer tests/node/node_modules/installed ## only the tests with real servers
	$(BIN)/python -m pytest tests/integration

browser: .venv/developer tests/node/node_modules/installed ## only the tests in Chromium
	$(BIN)/python -m pytest tests/browser

check: .venv/developer ## what CI checks beside the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check

fuzz: .venv/developer ## mutate known statements for a minute; PGHOLD_FUZZ_S for longer
	PGHOLD_FUZZ_S=$${PGHOLD_FUZZ_S:-60} $(BIN)/python -m pytest tests/fuzz --timeout 0

oracle: .venv/developer ## run all that is judged harmless on a live server, and look what is missing
	PGHOLD_ORACLE=1 $(BIN)/python -m pytest tests/integration/test_effects.py

fmt: .venv/developer ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/developer ## write the generated pages
	$(BIN)/python -m tools.docs

screenshots: .venv/developer ## take the pictures in docs/images anew
	$(BIN)/python -m tools.screenshots

bench: .venv/developer ## measure against pgbouncer and haproxy; see docs/performance.md
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.console
	$(BIN)/python -m benchmarks.gate
	$(BIN)/python -m benchmarks.recover

lock: ## write requirements.lock from pyproject.toml
	rm -rf .lock && $(PYTHON) -m venv .lock && .lock/bin/pip install --quiet .
	.lock/bin/pip freeze --exclude pghold --exclude setuptools | grep -v '@' > requirements.lock; rm -rf .lock

clean: ## remove what was made
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
