# make demo | test | lint | bench | digits | arm-board | clean.  Everything is installed into .venv, once.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin

empty :=
comma := ,
space := $(empty) $(empty)
# Without a C compiler the linker is a wheel: ziglang, from the extra `arm`.
LINKER := $(if $(shell command -v cc || command -v gcc || command -v clang),,arm)
extras = $(subst $(space),$(comma),$(strip $1 $(LINKER)))
package = .$(if $(call extras,$1),[$(call extras,$1)])

.PHONY: demo test lint bench digits arm-board clean distclean

demo: $(VENV)/.installed-run
	$(BIN)/python demo/run.py

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev $(VENV)/lint/qc
	$(BIN)/ruff check .
	MYPYPATH=$(VENV)/lint $(BIN)/mypy -p qc

bench: $(VENV)/.installed-run
	$(BIN)/python benchmarks/vs_onnxruntime.py $(ARGS)

# An emulator for ARM where the system has none, and a board with TVM; `make test` does this too.
arm-board: $(VENV)/.installed-dev
	$(BIN)/python tests/emulators.py

# Train the demo's network again; the only thing here that needs torch.
digits: $(VENV)/.installed-demo-torch
	$(BIN)/python demo/train_digits.py

clean:
	rm -rf demo-out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name $(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

distclean: clean
	rm -rf $(VENV)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; set PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "error: no venv in $(PYTHON); Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.installed-run: EXTRAS :=
$(VENV)/.installed-dev: EXTRAS := dev
$(VENV)/.installed-demo-torch: EXTRAS := demo torch
$(VENV)/.installed-%: pyproject.toml $(VENV)/.created
	@echo "Installing $(call package,$(EXTRAS)) into $(VENV), once; this takes a minute or two ..."
	@$(if $(LINKER),echo "No C compiler here: ziglang links instead.")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable "$(call package,$(EXTRAS))"
	@touch $@

# mypy names a package after its folder, and a checkout may be called anything.
$(VENV)/lint/qc:
	@mkdir -p $(@D)
	@ln -sfn ../.. $@
