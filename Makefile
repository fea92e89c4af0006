# Both targets do all of their own set-up; a second call does not reinstall.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORPUS ?=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bench clean

demo: $(VENV)/.core
	$(BIN)/voxfide demo

test: check
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

bench: $(VENV)/.test
	for script in benchmarks/*.py; do \
	    case $$script in \
	    */sounds.py) continue ;; \
	    */conditions.py | */domain.py | */export.py) set -- --corpus "$(CORPUS)" ;; \
	    */splices.py) set -- --corpus "$(CORPUS)/manifest.csv" ;; \
	    *) set -- ;; \
	    esac; \
	    [ "$$*" ] && [ -z "$(CORPUS)" ] && { echo "$$script: needs a corpus (make bench CORPUS=FOLDER)"; continue; }; \
	    $(BIN)/python $$script "$$@" || exit 1; \
	done

$(VENV)/.core: pyproject.toml constraints.txt
	@echo "Installing voxfide into $(VENV): a few minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[full]"
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(INSTALL) -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) voxfide-demo
