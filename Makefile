# Everything runs in the active virtual or conda environment, or else in .venv, which is made when
# needed. Another one: make VENV=/path/to/environment test. Another Python for .venv: make PYTHON=...

PYTHON ?= python3

# The folder of the active environment; empty if none is active.
ACTIVE := $(shell \
	for folder in "$$VIRTUAL_ENV" "$$CONDA_PREFIX"; do \
		if [ -n "$$folder" ] && [ -x "$$folder/bin/python" ]; then echo "$$folder"; exit; fi; \
	done; \
	$(PYTHON) -c 'import sys; print(sys.prefix if sys.prefix != sys.base_prefix else "")')
VENV := $(or $(ACTIVE),$(CURDIR)/.venv)
PY := $(VENV)/bin/python
PIP := "$(PY)" -m pip --disable-pip-version-check

# What was installed into the environment, from which checkout; compared before installing again.
STAMP := $(VENV)/.mmseg_arta-install
INPUTS := $(wildcard csrc/*/*) setup.py pyproject.toml mmseg_arta/version.py \
	requirements/openmmlab.txt requirements/base.txt \
	requirements/runtime.txt requirements/build.txt requirements/test.txt
STATE = $$(echo "$(CURDIR)"; cat $(INPUTS) | cksum)

# Threads that wait by spinning are slow where other programs run as well.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help env install demo test sanitize reliability sweep lint docs wheel doctor clean

help: ## Show this list
	@echo "Environment: $(VENV)"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## Make .venv, unless an environment is active or it is there
	@if [ ! -x "$(PY)" ]; then \
		$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' \
			|| { echo "mmseg_arta needs Python 3.10 to 3.13, not $$($(PYTHON) --version). Name" \
				"one: make PYTHON=python3.12 ..." >&2; exit 1; }; \
		echo "Making the virtual environment $(VENV)" \
		&& $(PYTHON) -m venv "$(VENV)"; \
	fi

install: env ## Install the pinned requirements and the package (editable)
	@if [ "$$(cat "$(STAMP)" 2>/dev/null)" = "$(STATE)" ] \
		&& "$(PY)" -c 'import importlib.metadata as m; m.version("mmseg_arta")' 2>/dev/null; \
	then \
		echo "mmseg_arta is installed in $(VENV)"; \
	else \
		echo "Installing into $(VENV)" \
		&& $(PIP) install -r requirements/runtime.txt -r requirements/build.txt \
			-r requirements/test.txt \
		&& $(PIP) install --no-deps --no-build-isolation --editable . \
		&& echo "$(STATE)" > "$(STAMP)"; \
	fi

demo: install ## Train and test a small ARTA model on toy images and draw its tokens
	"$(PY)" tools/demo.py $(ARGS)

test: install ## Run the tests (ARGS='-k doctor' and the like go to pytest)
	"$(PY)" -m pytest tests $(ARGS)

# GCC's sanitizers: they end the process at a read or write outside of an array and at what the
# language leaves undefined. Python itself is not built with them, so it must load theirs first;
# what it keeps until it ends is no leak of ours. A tensor may take 256 MiB. COUNT bounds the cases,
# SECONDS their time.
COUNT ?= 100000
SECONDS ?= 900
SANITIZED := build/sanitize/_C_cpu.so

$(SANITIZED): $(wildcard csrc/*.h csrc/cpu/*) mmseg_arta/ops/build.py
	CXX=g++ "$(PY)" mmseg_arta/ops/build.py cpu --sanitize --target $(@D)

sanitize: install ## Fuzz the C++ kernels, built with sanitizers (COUNT=100000 cases, SECONDS=900)
	@$(MAKE) --no-print-directory VENV="$(VENV)" $(SANITIZED)
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=256 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
		"$(PY)" tests/ops/run_fuzz.py --library $(SANITIZED) --count $(COUNT) --seconds $(SECONDS)

reliability: install ## Try to break the package, write what happened to docs/reliability.md
	"$(PY)" tests/reliability.py --out docs/reliability.md

sweep: install ## Run every config on toy data (ARGS='--configs "arta/*"'; --list shows what)
	"$(PY)" tools/sweep.py $(ARGS)

lint: install ## Check code and format with ruff, types with ty (which reads PyTorch's)
	@$(PIP) install --quiet -r requirements/lint.txt
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .
	"$(PY)" -m ty check --python "$(VENV)"

docs: install ## Build the documentation into build/site (warnings are errors)
	@$(PIP) install --quiet -r requirements/docs.txt
	"$(PY)" -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site

wheel: env ## Build a wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

doctor: install ## Show what is installed, and what to do about problems
	"$(PY)" -m mmseg_arta.doctor

clean: ## Remove what building and testing leave in the checkout (not .venv)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
