# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := 0.13.9
SEVENFOLD := PYTHONPATH=include:plugins $(BIN)/python -m sevenfold.cli

.DEFAULT_GOAL := help
.PHONY: help demo up down status rollback resume new-model notebook test check format bench pictures lock images compose hooks clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

demo: $(VENV)/ready ## carry the flight-delay model through all seven environments
	@$(SEVENFOLD) demo

up: $(VENV)/ready ## start the stack again, without repeating the demo
	@$(SEVENFOLD) up

down: ## stop everything; nothing is lost
	@if [ -e $(VENV)/ready ]; then $(SEVENFOLD) down; else echo "nothing is installed, so nothing runs"; fi

status: $(VENV)/ready ## what runs where, and what production serves
	@$(SEVENFOLD) status

rollback: $(VENV)/ready ## take a canary off, or without one go back to the champion before: MODEL=... REASON="..." [AGAIN=yes]
	@$(SEVENFOLD) rollback "$(MODEL)" --reason "$(REASON)" $(if $(AGAIN),--again)

resume: $(VENV)/ready ## let candidates be promoted again after a roll-back: MODEL=... REASON="..."
	@$(SEVENFOLD) resume "$(MODEL)" --reason "$(REASON)"

new-model: $(VENV)/ready ## a folder for your own model that works at once: NAME=churn [TASK=regression]
	@$(SEVENFOLD) new-model "$(NAME)" --task "$(or $(TASK),binary_classification)"

notebook: $(VENV)/ready ## explore a model's data and try ideas in JupyterLab, on loopback, with a token
	@PYTHONPATH="$(CURDIR)/include:$(CURDIR)/plugins" OMP_NUM_THREADS=1 MLFLOW_DISABLE_TELEMETRY=true \
		JUPYTER_CONFIG_DIR="$(CURDIR)/.sevenfold/jupyter/config" JUPYTER_DATA_DIR="$(CURDIR)/.sevenfold/jupyter/data" \
		$(BIN)/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None \
		include/notebooks/development.ipynb

test: $(VENV)/ready ## everything: format, lint, types, unit, DAG, page and end-to-end tests
	@tests/browser.sh
	@# half as many again as there are processors: a third of their time tests wait, for servers and programs of their own
	@$(BIN)/python -m pytest --numprocesses $$(( ($$(nproc) * 3 + 1) / 2 )) --dist loadfile -m "not end_to_end and not kubernetes"
	@# the real stack measures load, so the unit tests are over; Airflow's own, beside it, are over before it does
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 2 --dist loadscope tests/end_to_end

check: test ## the same, under the name that the hook uses

format: $(VENV)/ready ## format and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/ready ## the benchmarks, with their tables and goals, or some: ONLY=serving; fails at the end if one misses a goal
	@missed=; for name in $(or $(ONLY),$$(ls tests/benchmarks/*/__main__.py | cut -d/ -f3)); do \
		echo; echo "== $$name"; \
		PYTHONPATH=include:plugins:. OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.$$name || missed="$$missed $$name"; \
		done; [ -z "$$missed" ] || { echo; echo "these missed a goal or broke:$$missed"; exit 1; }

pictures: $(VENV)/ready ## the README's pictures of board and quality again, from what a demo has left
	@PYTHONPATH=include:plugins $(BIN)/python docs/pictures.py

lock: $(VENV)/ready ## resolve requirements.txt into requirements.lock
	@$(BIN)/uv pip compile requirements.txt --universal --python-version 3.11 --no-annotate --no-header \
		--quiet --output-file requirements.lock
	@# torch brings the CUDA packages of its own build, or none: they follow it, not this lock
	@sed -i -E '/^nvidia-ml-py==/b; /^(nvidia-|triton)/d' requirements.lock
	@$(BIN)/python docker/make/locks.py $(BIN)/uv

images: ## build what has changed in docker/ and note which images run: REGISTRY=... PUSH=1 SAVE=... BUILDER=... BASE=... ONLY=...
	@$(PYTHON) docker/make $(ONLY) --builder "$(BUILDER)" --registry "$(REGISTRY)" --base "$(BASE)" --save "$(SAVE)" \
		--pip-conf "$(PIP_CONF)" --flags "$(FLAGS)" --licenses "$(LICENSES)" \
		$(if $(PUSH),--push) $(if $(SOURCE),--source "$(SOURCE)")

compose: ## start everything with Docker Compose, and wait until it is well: images first (make images)
	@$(PYTHON) docker/compose
	@docker compose --file docker/compose.yaml up --detach --wait
	@echo "Airflow: http://127.0.0.1:18080 (passwords: docker compose --file docker/compose.yaml exec scheduler cat" \
		"/scratch/sevenfold/secrets/airflow.json), Grafana: http://127.0.0.1:13000 (admin, password in docker/.env)"

hooks: ## let git run `make check` before every commit
	@git config core.hooksPath .githooks

clean: down ## remove the environment and all state, evidence included
	rm -rf $(VENV) .sevenfold

# The environment follows the lock. torch comes first and by pip, so that whoever has a build of their own
# (CPU or CUDA) configured for pip gets that one; everything else is compiled to bytecode, because every
# activity is a process of its own and start-up is cost.
$(VENV)/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"Sevenfold needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot create environments: install its venv package (on Debian: python3-venv)"; exit 1; }
	@echo "creating the environment in $(VENV) from requirements.lock (about 3 GB, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	@grep -v '^torch==' requirements.lock > $(VENV)/lock-without-torch.txt
	@echo "1 of 2: torch"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on \
		--constraint $(VENV)/lock-without-torch.txt "$$(grep -oE '^torch==[0-9.]+' requirements.lock)"
	@echo "2 of 2: everything else"
	@$(BIN)/uv pip install --python $(BIN)/python --no-deps --compile-bytecode -r $(VENV)/lock-without-torch.txt
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q -j 0 include plugins dags $$($(BIN)/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib") + "/torch")') > /dev/null || true
	@touch $@
