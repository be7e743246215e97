# make bench: set up .venv if needed, then run the default suite.   make test: set up, then run the tests.
PYTHON ?= $(shell for v in 3.11 3.12 3.13; do command -v python$$v && break; done || echo python3)
SUITE ?= quick
CORES ?= all
CAMPAIGN ?= cpu
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: bench test gpu speed wheelhouse mlflow lint clean

bench: .venv/ready
	snakemake --cores $(CORES) --config suite=$(SUITE)

test: .venv/ready
	python -m pytest -n auto --dist loadfile

gpu: .venv/ready
	python -m pytest -m gpu

# which zeros pay where: make speed, or make speed CAMPAIGN=gpu
speed: .venv/ready
	snakemake --cores $(CORES) speed --config campaign=$(CAMPAIGN)

# all that an installation needs, for pip on a machine without a network
wheelhouse:
	$(PYTHON) -m pip wheel --quiet --constraint constraints.txt --wheel-dir wheelhouse '.[dev]' 'setuptools>=77' wheel

mlflow: .venv/ready
	mlflow ui --backend-store-uri sqlite:///results/$(SUITE)/mlflow.db

lint: .venv/ready
	ruff check . && ruff format --check . && mypy

# Made again when the pins change; a half-made environment is not taken for a ready one.
.venv/ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch .venv/ready

clean:
	rm -rf .venv results/quick .snakemake wheelhouse
