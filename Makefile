# Two commands matter: `make run` and `make test`. Both need only Python 3.11 or newer; the first one makes .venv.

BIN := .venv/bin
INSTALLED := .venv/.installed
KERNEL := .venv/.kernel
PIP := $(BIN)/python -m pip --disable-pip-version-check install
LOCKED := --require-hashes --no-deps --requirement
CONFIG ?= configs/quickstart.yaml
QUICKSTART := workspace/quickstart

# Prefect keeps its database in the workspace and sends nothing out; its embedded server may take long on a busy machine.
export PREFECT_HOME ?= $(CURDIR)/workspace/prefect
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS ?= 120
export DO_NOT_TRACK := 1

# Many processes start here; each would compile all that it imports once more.
unexport PYTHONDONTWRITEBYTECODE

# Tests are taken from the other's list by whoever is done first: their times differ by a factor of ten thousand. Quick
# tests hardly wait, and one more worker costs what it imports and makes: 18 CPU seconds.
ON_ALL_CORES := --numprocesses $(shell nproc) --dist worksteal

SLOW := -m "slow or server or hypothesis" --hypothesis-profile=full

# Slow tests share servers and days of hours: one worker has all that share one (tests/conftest.py). There is a worker
# more than cores, for they wait: for a schedule's next tick, a lease that ends, a server.
SHARING := --numprocesses $(shell expr 1 + $$(nproc)) --dist loadscope

.DEFAULT_GOAL := help
.PHONY: help install run test lint types unit slow faults bench site sbom lock clean wipe

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED) $(KERNEL) ## make .venv from the hash-locked dependencies

run: $(INSTALLED) $(KERNEL) ## simulate a day's first hours, run the hourly loop on them, print and write the report
	@mkdir -p $(PREFECT_HOME)
	$(BIN)/saec simulate --config $(CONFIG) --out $(QUICKSTART)/data
	@# Exit code 3 is an hour that was held, as the first ones are: the original has yet to learn something.
	$(BIN)/python -m flows.hourly --config $(CONFIG) || test $$? -eq 3
	$(BIN)/saec report --config $(CONFIG) --out $(QUICKSTART)/report.html

test: ## lint, types and tests, side by side
	@$(MAKE) --no-print-directory --jobs lint types unit

lint: $(INSTALLED) ## ruff: rules and formatting
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy

unit: $(INSTALLED) ## the quick tests and the examples in docstrings
	$(BIN)/python -m pytest $(ON_ALL_CORES)

slow: $(INSTALLED) ## the tests that take long or start servers, and properties on all their examples
	@# Those that start servers have time limits: what fails beside another test is run once more, alone.
	$(BIN)/python -m pytest $(SLOW) $(SHARING) || $(BIN)/python -m pytest $(SLOW) --last-failed

faults: $(INSTALLED) ## the scoreboard of faults, from a seed, in at most an hour; FAULTS=--short takes minutes
	$(BIN)/python -m benchmarks.faults --seed 1 $(FAULTS)

bench: $(INSTALLED) $(KERNEL) ## all benchmarks in a short form, compared with the kept results by ratio
	$(BIN)/python -m benchmarks.all

site: $(INSTALLED) ## the documents as a site with reference pages, workspace/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

sbom: $(INSTALLED) ## the bill of materials of the lock (CycloneDX), workspace/sbom.json
	@mkdir -p workspace
	$(BIN)/python -m benchmarks.faults.lock > workspace/sbom.json

lock: $(INSTALLED) ## renew requirements/ from pyproject.toml; UPGRADE=--upgrade also moves to newer releases
	$(COMPILE) --all-extras --no-emit-package torch --output-file requirements/lock.txt pyproject.toml
	echo "torch==$(TORCH)" | $(COMPILE) --no-config --constraints requirements/lock.txt \
		--output-file requirements/torch-registry.txt -
	$(COMPILE) --no-config --extra serving --constraints requirements/lock.txt --output-file requirements/serving.txt \
		pyproject.toml

# One lock for every Python from 3.11 on and every system: --universal writes markers, `fewest` one version of each.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-annotate --custom-compile-command "make lock" $(UPGRADE)
TORCH = $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements/torch-cpu.txt)

clean: ## remove .venv and caches; the workspace stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Never part of `clean`: what is in there cannot be made again by `make`.
wipe: ## remove the workspace (ledgers, checkpoints, published models, Prefect's database) once you have typed yes
	@du -sh workspace 2>/dev/null || { echo "there is no workspace"; exit 1; }
	@printf 'This removes all ledgers, checkpoints and published models in it. Type yes: '; read answer; test "$$answer" = yes
	rm -rf workspace

# Scoring in compiled code, where there is a C compiler; without one numpy scores, and nothing fails.
$(KERNEL): saec/build_kernel.py saec/serving/kernel.c | $(INSTALLED)
	@$(BIN)/python -m saec.build_kernel --if-possible
	@touch $@

# The stamp is written last: an interrupted installation is taken up again, a finished one costs nothing.
# torch comes in a step of its own, as its CPU build and the registry's are one version with different hashes and needs
# (docs/dependencies.md). The files are complete, so nothing is resolved here (--no-deps); `pip check` proves it.
$(INSTALLED): pyproject.toml $(wildcard requirements/*.txt)
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			"$$python" -m venv .venv && exit 0; \
			echo "saec: $$python cannot make a virtual environment; install its venv module" >&2; exit 1; \
		fi; \
	done; \
	echo "saec needs Python 3.11 or newer and found none; install one, or name it: make PYTHON=/path/to/python" >&2; exit 1
	@echo "saec: installing the locked dependencies into .venv (a minute or two, once)"
	@step() { printf 'saec: %s ... ' "$$1"; began=$$(date +%s); shift; "$$@" && echo "$$(($$(date +%s) - began)) s"; }; \
	counted() { { "$$@" 2>&1 || echo saec failed; } | awk '/^Collecting/ && ++count % 50 == 0 { printf "%d ", count } \
		/^Installing/ { printf "fetched, installing ... " } { fflush() } \
		/^saec failed/ { exit 1 } /^ERROR/ { bad = 1; print "" } bad { print }'; }; \
	step "1 of 4, torch" $(PIP) -qq $(LOCKED) requirements/torch-cpu.txt 2>/dev/null || { \
		echo "pip finds no CPU build here, so the registry's is taken (docs/dependencies.md)"; \
		step "1 of 4, torch of the registry" $(PIP) -qq $(LOCKED) requirements/torch-registry.txt; } && \
	step "2 of 4, $$(grep -c '^[a-z].*==' requirements/lock.txt) other packages" \
		counted $(PIP) $(LOCKED) requirements/lock.txt && \
	step "3 of 4, saec" $(PIP) -qq --no-deps --no-build-isolation --editable . && \
	printf 'saec: 4 of 4, do they fit together? ' && $(BIN)/python -m pip check
	@touch $@
