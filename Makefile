# make run            train a network and explain its mistakes
# make test           every test, every notebook and every check
# make quick          the tests without the notebooks: two minutes or so
# make test-anywhere  tests and notebooks four times: as other processors would compute, with one thread, and as it is
# All make a virtual environment first, in VENV.
VENV   ?= .venv
PYTHON ?= python3
BIN     = $(VENV)/bin
# An editable install belongs to one checkout: its path is part of the stamp.
HERE    = $(subst /,_,$(subst $() ,_,$(CURDIR)))

FULL  = --recipe reference --out runs/full
QUICK = --recipe quick --out runs/quick

.PHONY: run test quick test-anywhere docs web readme clean
.DEFAULT_GOAL := run

run: $(VENV)/installed-$(HERE)
	@echo "First, what the network that ships with the book gets wrong, and why (a minute on a CPU):"
	@$(BIN)/cifar_gradcam explain reference --out runs/shipped
	@if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
	  echo "A GPU: the reference run, 40 epochs on all images."; \
	  $(BIN)/cifar_gradcam train $(FULL) && $(BIN)/cifar_gradcam explain runs/full; \
	else \
	  echo "No GPU: the quick recipe, minutes on two cores. The full one takes hours on a CPU:"; \
	  echo "  $(BIN)/cifar_gradcam train $(FULL) && $(BIN)/cifar_gradcam explain runs/full"; \
	  $(BIN)/cifar_gradcam train $(QUICK) && $(BIN)/cifar_gradcam explain runs/quick; \
	fi

test: $(VENV)/dev-installed-$(HERE)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python checks/run.py

quick: $(VENV)/dev-installed-$(HERE)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n auto tests

test-anywhere: $(VENV)/dev-installed-$(HERE)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python checks/run.py --anywhere

# make notebook-04_onecycle_training: execute one notebook in place, ready to commit (bars would stay in its outputs)
notebook-%: $(VENV)/dev-installed-$(HERE)
	@cd nbs && TQDM_DISABLE=1 PATH="$(abspath $(BIN)):$$PATH" jupyter nbconvert --to notebook --execute --inplace $*.ipynb
	$(BIN)/nbdev_clean --fname nbs/$*.ipynb

docs: $(VENV)/dev-installed-$(HERE)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python checks/site_check.py _docs

# The page of your own picture alone, to be served from _web; needs npm, and no Quarto
web: $(VENV)/dev-installed-$(HERE)
	@$(BIN)/python checks/picture_app.py _web

readme: $(VENV)/dev-installed-$(HERE)
	$(BIN)/python checks/readme.py

$(VENV)/installed-%: settings.ini setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@rm -f $(VENV)/*installed-*; touch $@

$(VENV)/dev-installed-%: settings.ini setup.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@rm -f $(VENV)/*installed-*; touch $(VENV)/installed-$* $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv _docs _web _proc build dist *.egg-info
