# Two commands on a fresh machine: `make train` and `make test`. Both set up everything they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Test processes, one per core: `make test N=4`.
N ?= 2

.PHONY: help install train test quick test-coco8 test-oldest test-gpu soak lint format bench survival clean

# The oldest supported Ultralytics, from pyproject.toml, in an environment that shares everything else.
OLDEST := $(shell sed -n 's/.*"ultralytics>=\([0-9.]*\)".*/\1/p' pyproject.toml)
OLDEST_VENV := $(VENV)-ultralytics-$(OLDEST)
OLDEST_TESTS := tests/conformance tests/e2e/test_main_path.py tests/e2e/test_each_callback.py \
	tests/e2e/test_learning_rate.py tests/e2e/test_killed.py tests/e2e/test_repeated_and_resumed.py \
	tests/e2e/test_exact_resume.py tests/e2e/test_exact_or_not.py \
	tests/e2e/test_preempted.py tests/e2e/test_tasks.py tests/e2e/test_freeze.py tests/e2e/test_gradient_monitor.py \
	tests/e2e/test_system_monitor.py tests/e2e/test_watchdog.py tests/e2e/test_validation_schedule.py \
	tests/e2e/test_extra_validation.py tests/e2e/test_extended.py tests/e2e/test_lr_find.py tests/distributed/test_two_ranks.py
SOAK := /tmp/yolo-callbacks-soak

help:
	@echo "Each command first sets up what it needs."
	@echo "make train         train with the default callbacks: on coco8, or offline on built-in shapes"
	@echo "make test          run all tests"
	@echo "make quick         run the tests of pure logic and one real training, in under a minute"
	@echo "make test-coco8    run the tests that train on coco8, with the real one: YOLO_CB_COCO8=folder make test-coco8"
	@echo "make test-oldest   run the tests that depend on the trainer, with the oldest supported Ultralytics"
	@echo "make test-gpu      run the tests that need an NVIDIA GPU, and measure what the callbacks cost on it"
	@echo "make soak          kill trainings at random and at the worst moments, resume them, and compare every number"
	@echo "make lint          run ruff, mypy --strict, the import contracts, and the schemas of .github"
	@echo "make format        format the code with ruff"
	@echo "make bench         measure what the callbacks cost"
	@echo "make survival      compare what survives what: plain Ultralytics, a callback by hand, and yolo-callbacks"
	@echo "make clean         remove the environments, caches and runs"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)

install: $(READY)

# Ultralytics' settings for `make train`, unless you name your own: all downloads and outputs stay in this folder, and
# Ultralytics' own MLflow logging stays off, although mlflow is installed for the tests.
$(VENV)/ultralytics/.ready: $(READY)
	mkdir -p $(@D)
	YOLO_CONFIG_DIR=$(abspath $(@D)) $(BIN)/yolo settings mlflow=False "datasets_dir=$(CURDIR)/datasets" \
		"weights_dir=$(CURDIR)/weights" "runs_dir=$(CURDIR)/runs" > /dev/null
	touch $@

train: $(VENV)/ultralytics/.ready
	YOLO_CONFIG_DIR=$(or $(YOLO_CONFIG_DIR),$(abspath $(VENV))/ultralytics) $(BIN)/yolo-cb train --data demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(N) --dist loadfile --no-loadscope-reorder

# Everything without a training, and the smallest training that covers all of it.
QUICK_TESTS := tests/core tests/support tests/run_dir tests/callbacks tests/conformance tests/replaying tests/reporting tests/test_config.py \
	tests/e2e/test_main_path.py

quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(N) --dist loadfile --no-loadscope-reorder $(QUICK_TESTS)

test-coco8: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(N) --dist loadfile --no-loadscope-reorder -m "coco8 and not gpu"

$(OLDEST_VENV)/.ready: $(READY)
	$(PYTHON) -m venv $(OLDEST_VENV)
	echo "import site; site.addsitedir('$$($(abspath $(BIN))/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
		> $$($(OLDEST_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/all_the_rest.pth
	$(OLDEST_VENV)/bin/python -m pip install --quiet --no-deps "ultralytics==$(OLDEST)"
	touch $@

test-oldest: $(OLDEST_VENV)/.ready
	OMP_NUM_THREADS=1 $(OLDEST_VENV)/bin/python -m pytest -n $(N) --dist loadfile --no-loadscope-reorder $(OLDEST_TESTS)

test-gpu: install
	$(BIN)/python -m pytest -m gpu tests/gpu
	$(BIN)/python -m benchmarks.overhead --device 0
	$(BIN)/python -m benchmarks.hooks --device 0

soak: install
	$(BIN)/python -m tests.soak $(SOAK) --kills 50 --moments
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.exact $(SOAK)-exact
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(SOAK)-faults
	YOLO_CB_LONG_RUN=10000 $(BIN)/python -m pytest tests/test_long_runs.py
	YOLO_CB_FUZZ=50 $(BIN)/python -m pytest tests/fuzz
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.endurance $(SOAK)-endurance

survival: install
	$(BIN)/python -m benchmarks.survival

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/wish.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.reporters
	$(BIN)/python -m benchmarks.hooks

clean:
	rm -rf $(VENV) $(OLDEST_VENV) $(SOAK) $(SOAK)-exact $(SOAK)-faults $(SOAK)-endurance .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis runs build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
