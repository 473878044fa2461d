# The two that matter: `make lab` and `make test`. Both first make .venv if it is missing or older than the lock.
# Needs python3 (3.11 or newer) and make; nothing else. Works with the make 3.81 that macOS ships.

PYTHON ?= python3
LAB_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
NOTEBOOK := notebooks/00_start_here.ipynb

# Jupyter refuses to serve as root unless told to, which is what a container needs.
ROOT_ARGS := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help lab test lock wheel bench clean

help:
	@echo 'make lab    open JupyterLab on $(NOTEBOOK) (LAB_ARGS="--no-browser --port=8890" to change how)'
	@echo 'make test   ruff, unit tests, every notebook, then the browser tests'
	@echo 'make bench  list the benchmarks; run one by: $(BIN)/python -m kit bench NAME'
	@echo 'make wheel  build dist/*.whl'
	@echo 'make lock   write requirements.lock anew from pyproject.toml, with the newest versions'
	@echo 'make clean  remove caches and built wheels (and .venv only if you remove it yourself)'

# The notebook is the default page rather than an argument, so that the printed address leads to it too.
# `exec`: whoever stops make stops the server, and not just the shell between them.
lab: $(STAMP)
	exec $(BIN)/jupyter-lab $(ROOT_ARGS) $(LAB_ARGS) --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.default_url=/lab/tree/$(NOTEBOOK)

# The quick stages come first; make stops at the first one that fails. Two processes for two cores.
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests -m "not browser" -n 2
	$(BIN)/python -m pytest --nbval-lax notebooks -n 2 --dist loadfile
	$(BIN)/python -m pytest tests -m browser

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("kit needs Python 3.11 or newer, but $(PYTHON) is %d.%d; choose another: make PYTHON=python3.12 ..." % v[:2])'
	@echo 'Making $(VENV): about 2.4 GB, a few minutes the first time.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --no-isolation

bench: $(STAMP)
	$(BIN)/python -m kit bench

clean:
	rm -rf build dist .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

# torch is pinned by hand: its newest release is not always on conda-forge yet, and binder/ must have the same.
TORCH := 2.13.0
EXTRAS := notebooks,robot,qd,data,teach,scale,dev
# What the packages below ask for on other systems, which pip cannot see from here. A test knows when one is missing.
define ELSEWHERE
appnope==1.0.0 ; sys_platform == "darwin"
pywinpty==3.1.2 ; sys_platform == "win32"
endef
define LOCK_HEADER
# Every package of every extra, pinned. Made with Python MINOR by `make lock`; do not edit by hand.
# torch has no +cpu here, so that pip may take whichever build of that version it is offered.
endef
export ELSEWHERE LOCK_HEADER

# `--all` keeps setuptools, which torch needs at run time; pip itself is what reads the file, so it goes.
lock:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(PYTHON) -m venv "$$dir"; \
	"$$dir/bin/python" -m pip install "torch==$(TORCH)"; \
	"$$dir/bin/python" -m pip install "torch==$(TORCH)" -e ".[$(EXTRAS)]"; \
	minor=$$("$$dir/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	"$$dir/bin/python" -m pip freeze --all --exclude-editable > "$$dir/freeze"; \
	{ echo "$$LOCK_HEADER" | sed "s/MINOR/$$minor/"; \
	  { cat "$$dir/freeze"; echo "$$ELSEWHERE"; } | sed -e '/^pip==/d' -e 's/+cpu$$//' | LC_ALL=C sort -f; \
	} > "$$dir/lock"; \
	mv "$$dir/lock" requirements.lock; \
	echo "requirements.lock has $$(grep -c == requirements.lock) packages; binder/environment.yml must agree (make test says)"
