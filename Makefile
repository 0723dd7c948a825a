# Each target installs what it needs: a virtual environment with the locked requirements.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?= instagram-scrapper
SERVICE := $(VENV)/base.txt $(VENV)/docs.txt $(if $(REDIS_URL),$(VENV)/redis.txt)
IMAGE_PYTHON = $(shell sed -n 's/^FROM python:\([0-9.]*\).*/\1/p' Dockerfile | head -1)
# With eatmydata, tests do not wait for the disk. No test depends on whether a file was really synced.
EATMYDATA := $(shell command -v eatmydata || :)
# Finds the first of the Python versions $(1) that is installed on the PATH or in pyenv, or else $(PYTHON).
find = $(or $(shell for python in $(foreach it,$(1),python$(it) ~/.pyenv/versions/$(it).*/bin/python); do \
    "$$python" -c "" 2>/dev/null && echo "$$python" && break; done),$(PYTHON))
# These save memory: see docs/deploy.md.
run worker: export MALLOC_ARENA_MAX ?= 2
run worker: export MALLOC_MMAP_THRESHOLD_ ?= 1048576

.PHONY: run worker check style unit unit-newest test lint demo bench soak package image smoke arm format wheels audit lock update-instaloader clean

# If REDIS_URL is set, this runs one of several replicas.
run: $(SERVICE)
	@exec $(BIN)/python -m scrapper

worker: $(VENV)/base.txt $(VENV)/redis.txt
	@exec $(BIN)/python -m scrapper worker

# Run this for each change. It checks format, style and types, and runs the unit tests, in under 30 seconds.
check: style unit

unit: $(VENV)/dev.txt
	@$(EATMYDATA) $(BIN)/python -m pytest --quiet --numprocesses auto tests/unit

unit-newest:
	@$(MAKE) --silent unit VENV=.venv-newest PYTHON=$(call find,3.14 3.13)

style: $(VENV)/lint.txt
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

# Tests spend half of their time waiting, so two of them run per core.
test: $(VENV)/dev.txt
	@workers=$$($(BIN)/python -c "import os; print(2 * os.cpu_count())"); \
	    $(EATMYDATA) $(BIN)/python -m pytest --numprocesses $$workers --dist worksteal

lint: style
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/actionlint
	@$(BIN)/zizmor --offline --no-progress --quiet .github
	@if command -v promtool >/dev/null; then \
	    promtool check rules deploy/prometheus/alerts.yml \
	        && promtool test rules deploy/prometheus/alerts.test.yml; \
	else echo "Alert rules not checked: on Debian, apt install prometheus" >&2; fi

# Serves the page and the API with a stand-in for Instagram, until Ctrl-C. With CHECK=1, it exits by itself.
demo: $(VENV)/dev.txt
	@$(BIN)/python -m tests.demo $(if $(CHECK),--check)

# Uses the image's Python version, if that is installed. Takes about 20 minutes. Needs wrk, ab, redis-server
# and chromium. To measure only some groups of rows: make bench ONLY="posts clients"
bench:
	@$(MAKE) --silent VENV=.venv-bench PYTHON=$(call find,$(IMAGE_PYTHON)) .venv-bench/bench.txt
	@.venv-bench/bin/python -m tests.bench $(ONLY)

# Runs ten minutes of mixed load, faults and kills. Needs slowhttptest.
soak: $(VENV)/dev.txt
	@$(BIN)/python -m tests.soak

# Builds dist/*.whl and dist/*.tar.gz with locked build tools.
package: $(VENV)/dev.txt
	@$(BIN)/uv build --quiet --build-constraints requirements/build.txt --require-hashes

# Builds with Docker, Podman or buildah, whichever is installed. For another platform: make image PLATFORM=linux/arm64
# With ffmpeg: make image TARGET=full
image:
	@$(PYTHON) -m tests.image.build $(IMAGE) $(if $(TARGET),--target $(TARGET)) $(if $(PLATFORM),--platform $(PLATFORM))

# Starts the image as a user would, and tests it. With buildah, run it as root. Needs redis-server.
smoke: $(VENV)/dev.txt $(filter image,$(MAKECMDGOALS))
	@IMAGE=$(IMAGE) $(BIN)/python -m pytest tests/image/checks.py

# Runs the service on emulated processors of Raspberry Pis, without a container engine. Needs root on Debian,
# debootstrap and qemu-user-static.
arm: $(VENV)/dev.txt
	@$(BIN)/python -m pytest tests/image/arm.py

# Checks that each requirement has a wheel for amd64, arm64 and arm/v7.
wheels:
	@$(PYTHON) requirements/check_wheels.py

audit: $(VENV)/lint.txt
	@$(BIN)/pip-audit --disable-pip --require-hashes --strict \
	    -r requirements/base.txt -r requirements/docs.txt -r requirements/notify.txt \
	    -r requirements/redis.txt -r requirements/s3.txt

format: $(VENV)/lint.txt
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# Locks the newest versions that requirements/*.in allow.
lock: UPGRADE = --upgrade
# Locks only the newest Instaloader, and prints its version if it changed.
update-instaloader: UPGRADE = --upgrade-package instaloader

lock update-instaloader: $(VENV)/dev.txt
	@before=$$(grep ^instaloader== requirements/base.txt); \
	for name in base docs notify otel redis s3 dev lint bench build; do \
	    case $$name in base|docs) more="--overrides requirements/overrides.txt";; *) more=;; esac; \
	    case $$name in docs|notify|otel|redis|s3) more="$$more --constraints requirements/base.txt";; esac; \
	    $(BIN)/uv pip compile $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
	        --no-header --quiet $$more requirements/$$name.in -o requirements/$$name.txt || exit; \
	done; \
	after=$$(grep ^instaloader== requirements/base.txt); \
	[ "$$before" = "$$after" ] || expr "$$after" : 'instaloader==\([0-9.]*\)'

clean:
	@rm -rf $(VENV)

$(VENV)/%.txt: requirements/%.txt | $(VENV)
	@echo "Installing $<" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes --no-deps --only-binary :all: --no-binary forbiddenfruit -r $< >&2
	@cp $< $@

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >&2 || { rm -rf $(VENV); \
	    echo "The module venv is needed: on Debian, apt install python3-venv" >&2; exit 1; }
