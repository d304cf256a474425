# Two commands on a fresh machine: `make train` and `make test`. Both set up everything they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install train test lint format bench clean

help:
	@echo "make train   set up, then train on coco8 with the default callbacks"
	@echo "make test    set up, then run all tests"
	@echo "make lint    set up, then ruff and mypy --strict"
	@echo "make format  set up, then let ruff format the code"
	@echo "make bench   set up, then measure what the callbacks cost"
	@echo "make clean   remove the environment, caches and runs"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)

install: $(READY)

train: install
	$(BIN)/yolo-cb train --data coco8.yaml --epochs 5 --imgsz 320 --batch 4

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis runs build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
