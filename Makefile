# Every target says what it does; `make` alone lists them. GNU make 3.81 (a mac's) is enough.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test slow book export readme lint fresh coverage bench lab hooks

# python3.11 first, then whatever is new enough; `python3` last, so that set-up can say what is wrong with it
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && exit; done; echo python3)
endif
BIN := .venv/bin
JOBS ?= 2
OUT ?= runs/demo
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 VECLIB_MAXIMUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal
SETUP = @command -v $(PYTHON) >/dev/null || { echo "No Python found: install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11"; exit 1; }; \
	$(PYTHON) setup_environment.py $(if $(filter no,$(PINNED)),--newest)
PEERS_TOO = $(if $(filter no,$(PEERS)),,--peers)

help: ## list the targets
	@echo "make TARGET, one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## make .venv and .peers, once: 2 to 20 minutes and a few gigabytes (PYTHON=python3.11, PINNED=no, PEERS=no)
	$(SETUP) $(PEERS_TOO)

demo: ## the main job on embedded soundscapes: trains five folds, prints F1_MO, leaves runs/demo/report.html; 5 minutes (OUT=runs/demo)
	$(SETUP)
	@OMP_WAIT_POLICY=passive $(BIN)/sedsoft_demo --out $(OUT)  # threads that wait let others work

test: ## everything: notebooks against the library, tests, lint, freshness; 10 to 15 minutes on two cores (JOBS=2)
	$(SETUP) $(PEERS_TOO)
	@$(PYTEST) tests

slow: ## what takes longer: cells flagged slow, the built package in an environment of its own
	$(SETUP) $(PEERS_TOO)
	@SEDSOFT_SLOW=1 $(PYTEST) tests

book: ## run all chapters and keep their outputs, cleaned; one with CHAPTER=05_features
	$(SETUP)
	@$(BIN)/python tests/book.py $(CHAPTER)

export: ## write sedsoft/ from the chapters, and clean them
	$(SETUP)
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean

readme: ## write README.md from nbs/index.ipynb
	$(SETUP)
	@$(BIN)/python tests/readme.py

lint: ## ruff: check, and format --check
	$(SETUP)
	@$(BIN)/ruff check && $(BIN)/ruff format --check

fresh: ## export, clean and README again in a temporary tree: nothing may differ
	$(SETUP)
	@$(PYTEST) tests/test_structure.py -k fresh

coverage: ## how much of the exported lines the chapters and tests run: a table by module, at least 95 %
	$(SETUP) $(PEERS_TOO)
	@rm -rf .coverage-data && mkdir .coverage-data
	@COVERAGE_FILE=$(CURDIR)/.coverage-data/run $(ONE_THREAD) $(BIN)/coverage run -m pytest -q -n $(JOBS) --dist worksteal tests
	@COVERAGE_FILE=$(CURDIR)/.coverage-data/run $(BIN)/coverage combine -q
	@COVERAGE_FILE=$(CURDIR)/.coverage-data/run $(BIN)/coverage report

bench: ## print the figures of bench.md; one script with BENCH=metrics
	$(SETUP) $(PEERS_TOO)
	@for script in bench/$(or $(BENCH),*).py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lab: ## open JupyterLab at the index
	$(SETUP)
	@$(BIN)/jupyter lab nbs/index.ipynb

hooks: ## let git and Jupyter clean notebooks by themselves; writes outside this folder, and says where
	$(SETUP)
	@echo "nbdev_install_hooks writes .gitattributes, .gitconfig, .git/hooks/post-merge and an include in .git/config here,"
	@echo "and, in your home, ~/.jupyter/jupyter_notebook_config.py and ~/.jupyter/jupyter_server_config.py (added to, not replaced)."
	@printf 'Enter goes on, Ctrl-C stops: ' && read answer
	@$(BIN)/nbdev_install_hooks
