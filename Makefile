# `make` alone lists what there is. Everything happens in .venv; nothing has to be sourced or activated.
PYTHON ?= python3
VENV := .venv/bin
# One more than there are processors: many tests wait for processes of theirs.
WORKERS ?= $(shell expr $$(nproc) + 1)

.DEFAULT_GOAL := help
.PHONY: help build lint test demo demo-handover clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build:  ## make or renew .venv: ROS 2 (the sourced one, else its wheels), pinned packages, messages; then .venv/bin/egohand works
	@$(PYTHON) scripts/setup_venv.py

lint: build  ## ruff (lint and format) and the type checker
	@$(VENV)/ruff check --quiet . && $(VENV)/ruff format --quiet --check . && $(VENV)/mypy

test: lint  ## lint, then run every test
	@$(VENV)/python -m pytest test -m 'not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0; rest=$$?; \
	$(VENV)/python -m pytest test/ros -m alone && exit $$rest  # which judge by the clock: nothing beside them

demo: build  ## track, forecast and drive a simulated hand from generated input: out/demo/{bag,metrics.json,report.html}; and a web page
	@$(VENV)/egohand run --synthetic --sim --hand allegro_right --record out/demo/bag --report out/demo/report.html --json out/demo/metrics.json --viewer --overwrite

demo-handover: build  ## people give a baton to a simulated arm and take it back: out/handover/{handover.gif,page.html,handover.json}
	@mkdir -p out/handover && $(VENV)/egohand handover --count 4 --gif out/handover/handover.gif --report out/handover/page.html --json out/handover/handover.json

clean:  ## remove all that build, test and demo made
	@rm -rf .venv build install log out/demo out/handover *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	@find egohand_ros launch scripts test -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
