# Everything works from an empty clone with Linux, Python >= 3.11, Go >= 1.25 and make; see `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# The interpreter that makes .venv; any Python >= 3.11.
PYTHON ?= python3

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
RUN := $(BIN)/python
# The stamp's name holds the hash of what is installed: another lock file, another stamp.
STAMP := $(VENV)/.installed-$(shell cat requirements/dev.txt | sha256sum | cut -c1-16)
ENTER := $(RUN) -m tests.lab.enter --

.PHONY: help
help: ## show this list
	@echo "make TARGET, with TARGET one of:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

.PHONY: demo
demo: venv ## set everything up and show the main job on real servers
	@$(RUN) -m tests.lab.demo up

.PHONY: demo-down
demo-down: ## remove everything that the demo left
	@$(PYTHON) -m tests.lab.demo down

.PHONY: test
test: venv prerequisites lab lint check-generated test-unit test-lab ## all checks and all tests
	@echo "make test: everything passed"

.PHONY: test-unit
test-unit: venv ## the tests that need no server
	@echo "== unit tests"
	$(RUN) -m pytest -q -m "not lab"

.PHONY: test-lab
test-lab: venv prerequisites lab ## the tests on real servers, in namespaces of their own
	@echo "== lab tests: single parts on real servers"
	$(ENTER) $(RUN) -m pytest -q -m lab --ignore tests/e2e --durations=5
	@echo "== lab tests: the whole product on a lab of its own"
	$(ENTER) $(RUN) -m pytest -q -m lab tests/e2e --durations=10

.PHONY: bench
bench: venv prerequisites lab ## measure, beside the figures to reach
	$(ENTER) $(RUN) -m tests.bench

.PHONY: faults
faults: venv prerequisites lab ## kill the operator before and after each of its calls (about 25 minutes)
	$(ENTER) $(RUN) -m tests.faults.matrix

# Seconds for each target.
FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: venv ## fuzz what reads foreign bytes, FUZZ_SECONDS a target; then the properties, with 2000 examples each
	@echo "== fuzzing ($(FUZZ_SECONDS) s a target)"
	@test -e $(VENV)/.fuzz || { $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
	  -r requirements/fuzz.txt && touch $(VENV)/.fuzz; }
	PYTHONPATH=operator:. $(RUN) -m tests.fuzz --seconds $(FUZZ_SECONDS)
	$(RUN) -m pytest -q --hypothesis-profile=fuzz tests/unit/fuzz

.PHONY: lint
lint: venv ## style, types, layers
	@echo "== lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=operator $(BIN)/lint-imports

.PHONY: crds
crds: venv ## write crds/ from the models
	$(BIN)/sendward crds --output-dir crds

.PHONY: check-generated
check-generated: venv ## compare crds/ with the models
	@echo "== generated files"
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(BIN)/sendward crds --output-dir "$$scratch"; \
	diff -r -u crds "$$scratch" || { echo "error: crds/ differs from the models: run \`make crds\` and commit." >&2; exit 1; }

.PHONY: prerequisites
prerequisites: venv ## check Go, make, iproute2, namespaces
	@$(RUN) -m tests.lab.prerequisites

.PHONY: lab
lab: venv ## compile the lab's servers into the user's cache (the first time about 20 minutes on 2 cores)
	@$(RUN) -m tests.lab.builds >/dev/null

.PHONY: venv
venv: $(STAMP) ## make .venv with the locked dependencies and the package

$(STAMP): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Sendward needs Python 3.11 or newer, $(PYTHON) is not: install one, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "== installing the locked dependencies into $(VENV) (about a minute)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "error: \`$(PYTHON) -m venv\` failed: on Debian and Ubuntu install the package python3-venv." >&2; exit 1; }
	@rm -f $(VENV)/.installed-*
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
# The package in place, without a build: its folder on the path and its two commands.
	@echo "$(CURDIR)/operator" > "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sendward.pth"
	@for name in sendward kubectl-sendward; do \
	  printf '#!%s\nimport sys\n\nfrom sendward.cli.main import main\n\nsys.exit(main())\n' "$(RUN)" > $(BIN)/$$name; \
	  chmod +x $(BIN)/$$name; \
	done
	@touch $@

LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: lock
lock: venv ## write requirements/ from pyproject.toml, keeping pinned versions where they still fit
	$(LOCK) --output-file requirements/runtime.txt
	$(LOCK) --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(LOCK) --extra fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt

.PHONY: clean
clean: ## remove .venv and the tools' caches; the lab's binaries stay in ~/.cache/sendward
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find operator tests -name __pycache__ -type d -prune -exec rm -rf {} +
