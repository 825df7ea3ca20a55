# make demo   set up, bring the demo model, optimize it, show what it gains
# make test   set up, lint, type check, all tests (Python, and C++ under sanitizers)
# make faults the tests that make faults, at length: kills, full disks, hostile files (a quarter of an hour)
# make lint   format and type checks alone
# make test-aarch64  the C++ tests for 64-bit Arm, cross-compiled, in QEMU (needs both; not part of make test)
# make test-hub  bundles in sentence-transformers, optimum and fastembed (installs PyTorch in .cache/hub)
# make fuzz   the C++ fuzz targets, each for FUZZ_SECONDS (needs clang); their corpora are also replayed by make test
# make accessibility  axe on reports, in headless Chromium (needs node, npm, chromium, and once a network)
# make bench  the workloads of docs/benchmarks.md (needs PyTorch to export models: installed too)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
CPP := $(wildcard $(foreach file,* */* */*/*,custom_ops/$(file).cc custom_ops/$(file).h))
PY := onnx_memo tests tools models
ORT_VERSIONS := 1.17.3 1.18.1 1.19.2 1.20.1

FUZZ_SECONDS ?= 600
AARCH64_CPUS := cortex-a72 neoverse-n1 max # without dot products of bytes, with signed ones, with mixed ones

.PHONY: demo test test-hub faults lint native-test test-aarch64 fuzz accessibility bench setup
setup: $(SETUP)

$(SETUP): pyproject.toml onnx_memo/__init__.py custom_ops/CMakeLists.txt $(CPP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(SETUP)
	$(BIN)/python -m tools.demo

lint: $(SETUP)
	$(BIN)/ruff format --check $(PY)
	$(BIN)/ruff check $(PY)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

# Bundles are also run in older ONNX Runtimes, from the oldest that we claim on. Before 1.19 they need NumPy 1.
.cache/onnxruntime-%: | $(SETUP)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ onnxruntime==$* $(if $(filter 1.17.% 1.18.%,$*),"numpy<2")

native-test:
	cmake -S custom_ops -B build/sanitized -DCMAKE_BUILD_TYPE=Debug -DONNX_MEMO_TESTS=ON -DONNX_MEMO_SANITIZE=ON
	cmake --build build/sanitized --parallel
	ctest --test-dir build/sanitized --output-on-failure

test-aarch64:
	@command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null || \
	  { echo "make test-aarch64 needs a cross compiler and QEMU: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }
	cmake -S custom_ops -B build/aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DONNX_MEMO_TESTS=ON \
	  "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu"
	cmake --build build/aarch64 --parallel
	set -e; for cpu in $(AARCH64_CPUS); do \
	  echo "$$cpu"; qemu-aarch64 -cpu $$cpu -L /usr/aarch64-linux-gnu build/aarch64/tests/native_tests; \
	done
	ctest --test-dir build/aarch64 --output-on-failure --exclude-regex native_tests

# Stops at the first finding, and leaves its input in build/found. What is executed and covered, a line a target says.
fuzz:
	@echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' | \
	  clang++ -fsanitize=fuzzer -x c++ - -o /dev/null 2>/dev/null || \
	  { echo "make fuzz needs clang with libFuzzer: apt-get install clang libclang-rt-14-dev (or the version of your clang)"; exit 1; }
	cmake -S custom_ops -B build/fuzz -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DONNX_MEMO_FUZZ=ON
	cmake --build build/fuzz --parallel
	mkdir -p build/found
	set -e; for corpus in custom_ops/tests/fuzz/corpus/*; do \
	  target=$$(basename $$corpus); \
	  mkdir -p build/corpus/$$target; \
	  log=build/fuzz/$$target.log; \
	  echo "$$target for $(FUZZ_SECONDS) seconds"; \
	  build/fuzz/tests/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -max_len=256 -len_control=0 -malloc_limit_mb=64 \
	    -artifact_prefix=build/found/$$target- build/corpus/$$target $$corpus >$$log 2>&1 || { tail -n 60 $$log; exit 1; }; \
	  grep DONE $$log; \
	done

# Some tests run a real model.
models/cache/minilm-demo/model.onnx: | $(SETUP)
	$(BIN)/python -m models.bring demo

test: lint native-test $(ORT_VERSIONS:%=.cache/onnxruntime-%) models/cache/minilm-demo/model.onnx
	$(BIN)/python -m pytest -n logical --dist worksteal  # a process for each processor

# In an environment of its own: what it needs holds back other packages, and `make test` stays free of PyTorch.
HUB := .cache/hub

$(HUB)/.setup: pyproject.toml onnx_memo/__init__.py custom_ops/CMakeLists.txt $(CPP)
	test -x $(HUB)/bin/python || $(PYTHON) -m venv $(HUB)
	$(HUB)/bin/python -m pip install --quiet --upgrade "pip>=24"
	$(HUB)/bin/python -m pip install --quiet --editable ".[hub]" "pytest>=8"
	touch $@

test-hub: $(HUB)/.setup
	HF_HUB_OFFLINE=1 $(HUB)/bin/python -m pytest tests/hub tests/data/test_export.py

faults: $(SETUP)
	ONNX_MEMO_FAULTS=full $(BIN)/python -m pytest -m faults

accessibility: $(SETUP)
	$(BIN)/python -m tools.accessibility $(REPORTS)

bench: $(SETUP)
	$(BIN)/python -m pip install --quiet --editable ".[export]"
	$(BIN)/python -m tools.bench_products
	$(BIN)/python -m tools.bench_precision
	$(BIN)/python -m tools.bench_workloads
	$(BIN)/python -m tools.bench_decisions
	$(BIN)/python -m tools.advice_pages
