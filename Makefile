# make demo | test | lint | campaigns | clean.   Variables: PYTHON, VENV, TORCH_INDEX (see cluster/install.sh), OUT.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
STAMP  := $(VENV)/.installed
export TORCH_INDEX

.PHONY: setup demo test test-ray test-others lint campaigns clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml cluster/install.sh
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	bash cluster/install.sh $(VENV)/bin/python
	touch $@

demo: $(STAMP)
	$(VENV)/bin/steer sweep pipelines/configs/demo.yaml --out $(OUT)

# Runs on simulated engines wait as much as they work: the other tests run beside them.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs=2 test-ray test-others

test-ray: $(STAMP)
	$(VENV)/bin/python -m pytest tests/ray

test-others: $(STAMP)
	$(VENV)/bin/python -m pytest tests/engine tests/unit

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/mypy

# SIGKILLs of running pipelines and of an endpoint, and hostile model outputs, with their figures: half an hour.
campaigns: $(STAMP)
	$(VENV)/bin/python -m pytest tests/campaigns -s

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
