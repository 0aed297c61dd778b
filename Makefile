# make demo | test | lint | clean.   Variables: PYTHON, VENV, TORCH_INDEX (see cluster/install.sh), OUT.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
STAMP  := $(VENV)/.installed
export TORCH_INDEX

.PHONY: setup demo test lint clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml cluster/install.sh
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	bash cluster/install.sh $(VENV)/bin/python
	touch $@

demo: $(STAMP)
	$(VENV)/bin/steer sweep pipelines/configs/demo.yaml --out $(OUT)

test: $(STAMP)
	$(VENV)/bin/python -m pytest

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
