# make up      everything a fresh machine needs, then Tollhouse on http://127.0.0.1:8400
# make test    the tests            make check   format, lint, types, layers
# make bench   the benchmark        make lock    renew the locks (needs uv)
# make assets  what browsers load, from assets/ (needs Node.js; what it builds is committed)
# make messages  brings the translations of the pages up to their texts, new ones empty
# make screenshots  pictures of every page, into build/screenshots/ and docs/screenshots/ (needs Chromium)
# make sbom    what Tollhouse is made of, as CycloneDX: dist/sbom.cdx.json

PYTHON ?= python3
VENV ?= .venv
LOCKFLAGS ?= --upgrade
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
LOCK = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --quiet $(LOCKFLAGS)

.PHONY: up test check bench assets messages screenshots sbom lock clean

up: $(VENV)/run.stamp
	@exec $(VENV)/bin/tollhouse up

test: $(VENV)/dev.stamp $(VENV)/browser.stamp
	$(VENV)/bin/python -m pytest -n 3 --dist loadgroup -q

check: $(VENV)/dev.stamp $(VENV)/browser.stamp
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/python assets/check.py
	$(VENV)/bin/python locale/check.py
	$(VENV)/bin/python requirements/check.py

bench: $(VENV)/run.stamp
	$(VENV)/bin/python -m bench

assets: assets/node_modules/.package-lock.json
	node assets/build.js

assets/node_modules/.package-lock.json: assets/package-lock.json
	cd assets && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

messages: $(VENV)/run.stamp
	$(VENV)/bin/python locale/update.py

screenshots: $(VENV)/dev.stamp $(VENV)/browser.stamp
	$(VENV)/bin/python -m tests.web.screenshots

sbom: $(VENV)/made.stamp
	$(VENV)/bin/python requirements/sbom.py dist/sbom.cdx.json

lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: see requirements/README.md" >&2; exit 1; }
	$(LOCK) --group build --output-file requirements/run.txt
	$(LOCK) --group dev --constraint requirements/run.txt --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist assets/node_modules
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/run.stamp: $(VENV)/made.stamp requirements/run.txt pyproject.toml
	@echo "Installing what Tollhouse runs on (the first time takes a minute) ..."
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/made.stamp requirements/dev.txt pyproject.toml
	@echo "Installing what Tollhouse is tested with (the first time takes a minute) ..."
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# What tests in a browser need besides, where it can be had: without it they are left out, and say so.
$(VENV)/browser.stamp: assets/package-lock.json | $(VENV)/made.stamp
	@if ! command -v npm >/dev/null; then echo "No npm: assets are not built again, and tests with axe are left out."; \
	elif ! (cd assets && npm ci --ignore-scripts --no-audit --no-fund --silent); then echo "npm could not fetch what assets need."; fi
	@if command -v chromium >/dev/null || [ -n "$$TOLLHOUSE_CHROMIUM" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium) >/dev/null \
		|| echo "Chromium could not be installed."; \
	else echo "No Chromium: tests in a browser are left out. On Debian: apt install chromium"; fi
	@touch $@

$(VENV)/made.stamp:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Tollhouse needs Python 3.11 or later, and $(PYTHON) is missing or older." >&2; \
		echo "Install it, or name it: make PYTHON=/path/to/python3.11 up" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found can't make virtual environments: its venv module is missing." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV)
	@touch $@
