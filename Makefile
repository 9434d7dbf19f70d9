# `make demo` and `make test` are all a newcomer needs; each sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.PHONY: demo test check soak bench bench-data bench-llm bench-serve bench-train docs console coverage format clean constraints
.DELETE_ON_ERROR:

# --- what the targets below stand on -------------------------------------------------------------

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing blixt and the versions in constraints.txt (once; a few minutes)"
	$(PIP_INSTALL) -e '.[demo,build]'
	@touch $@

# DeepSpeed's own set-up looks at the torch that is here, so it is built beside it and not apart.
$(VENV)/.test: $(VENV)/.demo
	$(PIP_INSTALL) -e '.[test]'
	DS_BUILD_OPS=0 $(PIP_INSTALL) --no-build-isolation deepspeed
	@scripts/language-models $(BIN)/python
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP_INSTALL) -e '.[test,check]'
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	$(PIP_INSTALL) -e '.[bench]'
	$(PIP_INSTALL) --no-deps litdata==0.2.76
	@scripts/language-models $(BIN)/python
	$(BIN)/python -m benchmarks.data._peers
	@touch $@

console: $(VENV)/.demo
	$(BIN)/python console/build.py

# --- the commands --------------------------------------------------------------------------------

# From an empty machine to a trained, served, billed model. KEEP=1 leaves the cloud up.
demo: console
	$(BIN)/python -m blixt.demo $(if $(KEEP),--keep)

# Everything the project promises, shown on real server processes and a real browser.
test: $(VENV)/.test console
	@scripts/system-packages
	$(BIN)/python scripts/azurite/install.py
	$(BIN)/python console/build.py --test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations 15 $(PYTEST_ARGS)

# Ten minutes of load and misfortune on a service; SOAK_S sets another length in seconds.
SOAK_S ?= 600
soak: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m soak.serve --seconds $(SOAK_S)

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

coverage: $(VENV)/.test console
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report term --cov-report html $(PYTEST_ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-data bench-llm bench-serve bench-train: bench-%: $(VENV)/.bench
	$(BIN)/python -m benchmarks $*

docs: $(VENV)/.check
	$(BIN)/mkdocs serve

format: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pins what the current environment holds; run it in an environment made with every extra.
constraints: $(VENV)/.bench $(VENV)/.check
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v '^blixt\|^pip==' | sed 's/+cpu$$//' | sort -f > constraints.txt

clean:
	rm -rf $(VENV) site dist htmlcov src/blixt/cloud/static console/node_modules
