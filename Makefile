PYTHON ?= python3
VENV = .venv
RUN = $(VENV)/bin/python

.PHONY: demo test test-slow bench lint clean

$(VENV)/.installed: setup.py requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(VENV)/.installed
	@$(RUN) -m experiments.run --config=experiments/configs/demo.py --workdir=runs/demo

test: $(VENV)/.installed
	@$(RUN) -m pytest --numprocesses=auto --dist=loadfile -m 'not slow'

test-slow: $(VENV)/.installed
	@$(RUN) -m pytest --numprocesses=auto --dist=loadfile -m slow

lint: $(VENV)/.installed
	@$(RUN) -m ruff check .

bench: $(VENV)/.installed
	$(RUN) -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(RUN) -m experiments.benchmark --output=runs/benchmark.json

clean:
	rm -rf $(VENV) runs .pytest_cache
