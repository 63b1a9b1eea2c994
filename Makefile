# What there is to do here. `make` alone lists it.

JOBS ?= 100
SECONDS ?= 300
SEEDS ?= 1 2 3
# Most tests wait more than they compute.
PROCESSES ?= 3
BIN := .venv/bin
BENCH ?= noop redis_cpu enqueue memory submit_million counters fork tail million scale net3 environments
SHELL_FILES := buildstack.sh .ci/run $(wildcard src/cloudburst/commands/*.sh) images/answers images/prepare \
  images/install images/gateway/entry images/gateway/authorize images/queue/entry images/queue/ready \
  images/worker/entry images/worker/beats \
  $(wildcard tests/swarm/machine/*) tests/swarm/killing/ssh tests/swarm/images/influx1/entry

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo stop test test-slow test-swarm test-redis lint format docs dashboards bench chaos lock clean

help: ## List all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make the environment (.venv) that the stack needs
	@./buildstack.sh --setup

setup-dev: ## Make the environment that the tests need, too
	@./buildstack.sh --setup-dev

demo: setup ## Start the local stack and run the Net3 ensemble (JOBS=100)
	@./buildstack.sh --local
	@$(BIN)/python client/run.py --jobs $(JOBS)

stop: setup ## Stop the local stack; results and files stay
	@./buildstack.sh --local -d

test: lint ## Lint, types, layers, and every test that is neither slow nor needs machines: what to run before a commit
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m "not slow and not swarm"

test-slow: setup-dev ## The tests that are exhaustive, build environments or wait: a quarter of an hour
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m "slow and not swarm"

test-swarm: setup-dev ## The tests that need Docker and virtual machines: as root, on Linux; half an hour
	$(BIN)/pytest -m swarm

test-redis: setup-dev ## The quick tests that touch Redis, with the servers of Debian 12 and 13: as root
	@servers=$$($(BIN)/python -m tests.redises) || exit; failed=; for server in $$servers; do \
	  echo "== with $$($$server --version)"; CLOUDBURST_TEST_REDIS=$$server $(BIN)/pytest -n $(PROCESSES) --dist loadfile \
	  -m "not slow and not swarm" tests/rqwire tests/contract tests/commands tests/chaos \
	  tests/test_trust.py tests/stack/test_swarm_status.py || failed=yes; \
	done; [ -z "$$failed" ]

lint: setup-dev ## Style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(SHELL_FILES); \
	else echo "shellcheck is not installed: shell scripts are not checked"; fi

format: setup-dev ## Format the code and sort its imports
	$(BIN)/ruff check --select I --fix --quiet
	$(BIN)/ruff format

docs: setup-dev ## Write docs/reference.md from what the commands say, docs/api.md from the docstrings
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/api.py

dashboards: setup-dev ## Write grafana/dashboards/*.json
	$(BIN)/python grafana/dashboards.py

bench: setup-dev .venv-bench ## Run all benchmarks, then print their table (an hour on two CPUs; BENCH="noop fork": only these)
	@for name in $(BENCH); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit; done
	@$(BIN)/python benchmarks/table.py

.venv-bench: benchmarks/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $@
	$(BIN)/uv pip install --quiet --python $@/bin/python -r $<
	@touch $@

chaos: setup-dev ## Run ensembles under random faults (SECONDS=300 SEEDS="1 2 3"); fails if anything is lost or doubled
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) --seeds $(SEEDS)

lock: setup-dev ## Resolve the dependencies again and lock them by hash
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
	  pyproject.toml --extra setup --extra stack --extra demo --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
	  pyproject.toml --extra setup --extra stack --extra demo --extra dev --constraints requirements.lock \
	  --output-file requirements-dev.lock
	for image in worker filestore queue-dash; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
	    images/$$image/requirements.in --constraints requirements.lock \
	    --output-file images/$$image/requirements.lock || exit; \
	done

clean: ## Remove the environment and all caches; stacks and their results stay
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache src/*.egg-info
	find src tests client -name __pycache__ -type d -prune -exec rm -rf {} +
