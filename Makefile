# Weir. `make` alone lists what can be made. Each target does its own set-up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help run demo test unit fuzz soak soak-tests soak-faults bench bench-peers guard check format lock pricing docs image clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Weir needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.build: requirements/build.txt $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/build.txt
	@touch $@

$(VENV)/.run: requirements/run.txt pyproject.toml $(VENV)/.build
	@echo "installing Weir into $(VENV) ..." >&2
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e examples/slow_log
	@touch $@

run: $(VENV)/.run ## start Weir on port 3006 (with OPENAI_API_KEY: to OpenAI; without: to the demo upstream)
	@exec $(BIN)/weir serve $(ARGS)

demo: $(VENV)/.dev ## show what Weir does, in half a minute (ARGS="--url http://127.0.0.1:3006/v1": a Weir of yours)
	@exec $(BIN)/weir demo $(ARGS)

# For the tests of deploy/, in an environment of its own since what it pins is not what Weir needs.
$(VENV)/.deploy: requirements/deploy.txt $(VENV)/bin/python
	$(BIN)/python -m venv --clear $(VENV)/deploy
	$(VENV)/deploy/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements/deploy.txt
	@touch $@

# The clients of docs/howto, for their tests: those of PyPI pin an older openai, those of npm need Node.js.
$(VENV)/.clients: requirements/clients.txt $(VENV)/bin/python
	@echo "installing the clients of docs/howto into $(VENV)/clients ..." >&2
	$(BIN)/python -m venv --clear $(VENV)/clients
	$(VENV)/clients/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements/clients.txt
	@touch $@

$(VENV)/.node: tests/clients/package.json tests/clients/package-lock.json $(VENV)/bin/python
	@mkdir -p $(VENV)/node && cp tests/clients/package*.json $(VENV)/node
	@if ! command -v node >/dev/null || ! command -v npm >/dev/null; then \
	  echo "no Node.js with npm: the tests of docs/howto/node.md and vercel-ai-sdk.md are skipped" >&2; \
	elif (cd $(VENV)/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null); then touch $@; \
	else echo "npm could not install the clients: their tests are skipped" >&2; fi

# Where there is no wheel for it, tests that need it are skipped, and say so.
$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.dev
	@if $(PIP) install --require-hashes --only-binary :all: -r requirements/fuzz.txt; then touch $@; \
	else echo "atheris cannot be installed here: fuzzing that coverage guides is skipped" >&2; fi

test: $(VENV)/.dev $(VENV)/.deploy $(VENV)/.clients $(VENV)/.node $(VENV)/.fuzz ## run all tests (ARGS="-k sse -x" goes to pytest)
	$(BIN)/python -m pytest $(ARGS)

unit: $(VENV)/.dev ## run the fast tests
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

fuzz: $(VENV)/.fuzz ## let coverage guide random bytes through parsers (ARGS="--seconds 600 --target sse --keep")
	@exec $(BIN)/python -m tests.fuzz $(ARGS)

soak: $(VENV)/.dev ## serve under random faults for 10 minutes, and tell what grows (ARGS="--minutes 60 --seed 7")
	@exec $(BIN)/python -m tests.soak $(ARGS)

SOAKED := tests/faults/test_ledger.py tests/plugins/auth/test_mirror.py tests/plugins/limiter/redis tests/pricing/output \
  tests/fuzz/test_generated.py
soak-tests: $(VENV)/.dev ## run tests that are random or racy many times over (half an hour)
	WEIR_SOAK=1 $(BIN)/python -m pytest --timeout 1800 $(SOAKED) $(ARGS)

TIMES ?= 20
soak-faults: $(VENV)/.dev ## run the fault suite 20 times in a row, or up to its first failure (TIMES=5)
	@for turn in $$(seq $(TIMES)); do \
	  echo "fault suite, $$turn of $(TIMES)"; $(BIN)/python -m pytest -q -x tests/faults $(ARGS) || exit 1; \
	done

check: $(VENV)/.dev ## formatting, lint, types, import rule, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py

format: $(VENV)/.dev ## mend formatting and what lint can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

pricing: $(VENV)/.dev ## compile pricing.yaml into the package
	$(BIN)/python scripts/update_pricing.py pack

LOCK := uv pip compile -q --no-header --universal --python-version 3.11 --generate-hashes --no-emit-index-url
WHEELS := sys_platform == 'linux' and platform_machine == 'x86_64' and python_version
lock: ## make requirements/*.txt anew from pyproject.toml, and the lock of npm's clients (needs uv and npm)
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --group dev -o requirements/dev.txt
	printf 'langchain-openai>=1.1\nllama-index-llms-openai-like>=0.5\n' | $(LOCK) --no-annotate - -o requirements/clients.txt
	printf 'kubernetes-validate>=1.37\n' | $(LOCK) --no-annotate - -o requirements/deploy.txt
	printf 'atheris>=3.0,<3.1; %s < "3.12"\natheris>=3.1; %s >= "3.12"\n' "$(WHEELS)" "$(WHEELS)" | \
	  $(LOCK) --no-annotate - -o requirements/fuzz.txt
	cd tests/clients && npm update --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --loglevel=error
	printf 'hatchling>=1.27\neditables>=0.5\n' | $(LOCK) --no-annotate - -o requirements/build.txt

bench: $(VENV)/.run ## measure Weir beside what is there of nginx and Caddy; writes docs/benchmarks (ARGS="--rounds 5")
	@exec $(BIN)/python -m bench.run $(ARGS)

bench-peers: $(VENV)/.run build/peers/.litellm ## the same with LiteLLM, which it installs in build/peers
	@exec $(BIN)/python -m bench.run --with-peers $(ARGS)

build/peers/.litellm:
	@echo "installing LiteLLM into build/peers/litellm ..." >&2
	$(PYTHON) -m venv build/peers/litellm
	build/peers/litellm/bin/python -m pip --disable-pip-version-check -q install 'litellm[proxy]'
	@touch $@

guard: $(VENV)/.run ## count the instructions of a request and an event, under valgrind (ARGS=--update keeps them)
	@exec $(BIN)/python -m bench.guard $(ARGS)

docs: $(VENV)/.dev ## build the documentation as a site, strictly (build/site/index.html)
	$(BIN)/python scripts/gather_pages.py build/pages
	$(BIN)/zensical build --strict --clean
	@rm -rf .cache
	@echo "open build/site/index.html, or: $(PYTHON) -m http.server -d build/site" >&2

image: $(VENV)/.dev ## build the container image and try it, without a Docker engine (needs buildah)
	@$(BIN)/python scripts/make_image.py $(ARGS)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
