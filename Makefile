# make demo | test | lint | clean.   Variables: PYTHON, VENV, TORCH_INDEX (see cluster/install.sh), OUT.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
STAMP  := $(VENV)/.installed
export TORCH_INDEX

.PHONY: setup demo test test-ray test-others lint clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml cluster/install.sh
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	bash cluster/install.sh $(VENV)/bin/python
	touch $@

demo: $(STAMP)
	$(VENV)/bin/steer sweep pipelines/configs/demo.yaml --out $(OUT)

# What starts Ray waits as much as it works: the other tests run beside it.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs=2 test-ray test-others

test-ray: $(STAMP)
	$(VENV)/bin/python -m pytest -m ray

test-others: $(STAMP)
	$(VENV)/bin/python -m pytest -m "not ray"

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
