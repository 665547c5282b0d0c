# Every verb of this checkout; `make help` lists them.

MEMBERS = libs/memcube_common libs/memcube_cli sdk/python \
	services/gateway services/ingestion services/embedding services/scheduling services/marketplace services/lifecycle
PROJECTS = pyproject.toml libs/memcube_common/pyproject.toml libs/memcube_cli/pyproject.toml sdk/python/pyproject.toml \
	services/gateway/pyproject.toml services/ingestion/pyproject.toml services/embedding/pyproject.toml \
	services/scheduling/pyproject.toml services/marketplace/pyproject.toml services/lifecycle/pyproject.toml
BIN = .venv/bin
PY = $(BIN)/python
INSTALLED = .venv/.installed
PIP = $(PY) -m pip --disable-pip-version-check install --quiet --no-deps

.PHONY: help up down status demo check test faults conformance bench format lock clean

help: ## list every verb
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

up: $(INSTALLED) ## start everything and print how to use it (DETACH=1 returns when it is ready)
	@if [ -n "$(DETACH)" ]; then exec $(PY) -m memcube_cli up --detach; else exec $(PY) -m memcube_cli up; fi

down: $(INSTALLED) ## stop what `make up` started; data stays in .memcube
	@$(PY) -m memcube_cli down

status: $(INSTALLED) ## say what runs in this checkout, and where
	@$(PY) -m memcube_cli status

demo: $(INSTALLED) ## walk a few insights through the running stack
	@$(BIN)/memcube demo

check: $(INSTALLED) ## format, lint, types, walls and generated files, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(PY) docs/generate.py --check

test: check ## exactly what CI runs: check, then every test but the long ones, two at a time
	$(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

faults: $(INSTALLED) ## kill and cut things under load, and count what was lost
	MEMCUBE_LONG=1 MEMCUBE_TENANT_REQUESTS=10000 $(PY) -m pytest \
		tests/faults tests/security/test_tenants_under_load.py tests/e2e/test_verify_isolation.py

conformance: $(INSTALLED) ## 5,000 generated requests against the OpenAPI document, 2,000 random steps against a plain model
	MEMCUBE_CONFORMANCE_CASES=5000 MEMCUBE_MODEL_STEPS=2000 $(PY) -m pytest \
		tests/integration/gateway/test_conformance.py tests/integration/gateway/test_book_model.py

bench: $(INSTALLED) ## measure, and write docs/performance.md
	$(PY) -m benchmarks

format: $(INSTALLED) ## put the code into its format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## resolve the dependencies anew and export them with hashes, without addresses (needs uv)
	uv lock
	uv export --format requirements-txt --no-emit-workspace --no-header --no-annotate --all-groups --all-extras \
		--output-file requirements.lock --quiet

clean: ## remove the virtual environment and caches; never the data in .memcube
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache dist build
	find libs services sdk tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock $(PROJECTS)
	@python=; \
	for candidate in python3 python3.13 python3.12 python3.11; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "MemCube needs Python 3.11 or newer, and none is on the PATH (looked for python3, python3.13, python3.12, python3.11)." >&2; \
		exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; \
		exit 1; \
	fi; \
	if ! $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "making the virtual environment with $$($$python --version)"; \
		$$python -m venv --clear .venv || exit 1; \
	fi
	@echo "installing what requirements.lock names (a minute or two the first time)"
	@$(PIP) --require-hashes -r requirements.lock
	@set --; for member in $(MEMBERS); do set -- "$$@" -e "$$member"; done; $(PIP) --no-build-isolation "$$@"
	@touch $(INSTALLED)
