# Everything a user or a contributor runs. The environment is made on first use, in .venv.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DEVICE ?= auto
# cpu or gpu: which ONNX Runtime to install.
RUNTIME ?= cpu
# How often `make chaos` kills, and how often it ends.
ROUNDS ?= 10

# Since 1.29 ONNX Runtime reports to its makers unless told not to.
export ORT_DISABLE_TELEMETRY := 1

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := $(wildcard models/*.py export/*.py) pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test check bench chaos export docs accuracy format clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: artifacts/.stamp ## install, export from Torch, and serve on PORT (8000) of HOST
	GATEWAVE_DEVICE=$(DEVICE) exec $(BIN)/gatewave serve --host $(HOST) --port $(PORT)

test: $(VENV)/.dev ## install, and run all tests with coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.dev ## lint, types, import contracts, and docs that match the records
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict docker-compose.yml deploy
	$(BIN)/python -m export.docs --check

bench: artifacts/.stamp $(VENV)/.dev ## measure the service and the graphs against their peers
	$(BIN)/python -m benchmarks

chaos: $(VENV)/.dev ## kill workers and end services under load, ROUNDS (10) times each
	PYTHONPATH=tests $(BIN)/python tests/load/chaos.py --rounds $(ROUNDS)

export: artifacts/.stamp ## export every activation from Torch to artifacts/

docs: $(VENV)/.dev ## write docs/activations.md and its plots from the records
	$(BIN)/python -m export.docs

accuracy: $(VENV)/.dev ## measure every graph, and write docs/accuracy.md
	$(BIN)/python -m export.accuracy

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove what was made: environment, artifacts, caches
	rm -rf $(VENV) artifacts dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache

artifacts/.stamp: $(VENV)/.serve $(SOURCES)
	$(BIN)/gatewave export --output artifacts
	@touch $@

$(VENV)/.serve: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing Gatewave with ONNX Runtime for $(RUNTIME), and Torch, into $(VENV) ..."
	$(PIP) --editable '.[$(RUNTIME),export,tables]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing Gatewave with its development tools into $(VENV) ..."
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.serve

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@
