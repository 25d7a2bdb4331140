# `make setup` builds the environment; everything else runs in it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.headrace-setup

.PHONY: setup demo down check format test test-long soak bench wheel lock clean

setup: $(STAMP)

# Only what the lock names, with its hashes (--no-deps: it is complete, and Debian's pip 23 stumbles over
# extras in it); then the project itself, editable, without looking for anything more (hatchling is in
# the lock). Byte-compiling is worth ten seconds here: without it each `import prefect` takes 4-6 s instead
# of 2. pip's own compiling is off, since it uses one core; what can't be compiled is some packages' templates.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Headrace needs Python 3.11 or newer; try: make setup PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "On Debian and Ubuntu, venv is a package of its own: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation --editable .
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV)/lib || true
	touch $(STAMP)

# The demo's stack lives in .headrace/ and stays up in the background; `make down` stops it.
demo: setup
	$(BIN)/headrace demo --home .headrace

down: setup
	$(BIN)/headrace down --home .headrace

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Some ten minutes on two cores, and never more than twelve; PYTEST_ARGS narrows it, such as PYTEST_ARGS=tests/engine.
test: setup
	$(BIN)/python -m pytest -m "not long and not soak" --durations 20 --durations-min 4 $(PYTEST_ARGS)

# The long ones: every shared film in a browser, every kill.
test-long: setup
	$(BIN)/python -m pytest -m "long and not soak" $(PYTEST_ARGS)

# A thousand downloads killed -9, each at another moment; about half an hour.
soak: setup
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

# Beside the peers that are installed; some minutes. docs/benchmarks.md has the single commands.
bench: setup
	$(BIN)/python -m tests.benchmarks.download
	$(BIN)/python -m tests.benchmarks.changed

wheel: setup
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

# Resolves pyproject.toml anew, for every platform and Python from 3.11 on; needs uv. No address is written.
lock:
	uv pip compile pyproject.toml --extra stack --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file requirements.lock
	uv pip compile pyproject.toml deployments/requirements.in --extra worker --extra dashboard \
		--constraint requirements.lock --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file deployments/requirements.lock

# Not .headrace: that is where `make demo` keeps what it ingested.
clean:
	rm -rf $(VENV) dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
