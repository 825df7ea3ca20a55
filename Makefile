# make demo   set up, bring the demo model, optimize it, show what it gains
# make test   set up, lint, type check, all tests (Python, and C++ under sanitizers)
# make faults the tests that make faults, at length: kills, full disks, hostile files (some minutes)
# make lint   format and type checks alone
# make bench  the workloads of docs/benchmarks.md (needs PyTorch to export models: installed too)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
CPP := $(wildcard custom_ops/*.cc custom_ops/*.h custom_ops/*/*.cc custom_ops/*/*.h)
PY := onnx_memo tests tools models
OLDEST_ORT := 1.20.1

.PHONY: demo test faults lint bench setup
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

# The library is also run in the oldest ONNX Runtime that we claim.
.cache/onnxruntime-$(OLDEST_ORT): | $(SETUP)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ onnxruntime==$(OLDEST_ORT)

native-test:
	cmake -S custom_ops -B build/sanitized -DCMAKE_BUILD_TYPE=Debug -DONNX_MEMO_TESTS=ON -DONNX_MEMO_SANITIZE=ON
	cmake --build build/sanitized --parallel
	ctest --test-dir build/sanitized --output-on-failure

# Some tests run a real model.
models/cache/minilm-demo/model.onnx: | $(SETUP)
	$(BIN)/python -m models.bring demo

test: lint native-test .cache/onnxruntime-$(OLDEST_ORT) models/cache/minilm-demo/model.onnx
	$(BIN)/python -m pytest

faults: $(SETUP)
	ONNX_MEMO_FAULTS=full $(BIN)/python -m pytest -m faults

bench: $(SETUP)
	$(BIN)/python -m pip install --quiet --editable ".[export]"
	$(BIN)/python -m tools.bench_workloads
