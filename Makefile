# All there is to run; CI calls nothing else. Everything is installed into .venv (and .venv-*).
# constraints.txt fixes every version. On Linux without a GPU, setting
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves gigabytes of CUDA libraries.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP = -m pip install -qq --disable-pip-version-check -c constraints.txt

help:  ## list what there is
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 18

demo: .venv/train.stamp  ## train and compare SFT and MIPO in the embedded world
	.venv/bin/mipo-eval demo

demo-real: .venv/real.stamp  ## the same with a real small model, SmolLM2; hours on two cores
	.venv/bin/mipo-eval grid real
	.venv/bin/mipo-eval leaderboard --suite everyday

test: .venv/dev.stamp  ## run all tests, with coverage
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term:skip-covered

check: .venv/dev.stamp  ## lint, format, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

wheel-test: .venv/dev.stamp  ## build the wheel, install it elsewhere, use it there
	rm -rf dist .venv-wheel && .venv/bin/python -m build --outdir dist . >/dev/null
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python $(PIP) "$$(echo dist/*.whl)[hf]"
	.venv-wheel/bin/python -I tests/wheel_smoke.py

soak: .venv/dev.stamp  ## the tests of faults at thirty moments each, and bad networks at length
	.venv/bin/python -m pytest tests/faults -n auto --maxprocesses 4 --dist loadfile --moments 30

bench: .venv/dev.stamp .venv-bench/stamp  ## measure every speed beside the others', write docs/benchmarks.md
	.venv/bin/python -m benchmarks

.venv-bench/stamp: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -qq --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

# Only its operators are used, so that none of what else it wants is needed.
mutate: .venv/dev.stamp  ## change the code that decides numbers; which changes does no test notice?
	.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --target .venv-mutate \
		cosmic-ray==8.7.0 parso==0.8.7 stevedore==5.10.0
	PYTHONPATH=.venv-mutate .venv/bin/python -m tests.mutate --out .venv-mutate/results

test-push: .venv/dev,push.stamp  ## send runs by the real clients of wandb, trackio, MLflow and TensorBoard
	.venv/bin/python -m pytest tests/push

test-vllm: .venv/dev.stamp  ## build a vLLM for this CPU in .venv-vllm and test against it
	$(PYTHON) tests/vllm/build_env.py
	.venv/bin/python -m pytest -m vllm

test-rebuild: .venv/dev.stamp  ## make the demo's base model again and test that it behaves alike
	.venv/bin/python -m pytest -m rebuild

base-model: .venv/dev.stamp  ## make the demo's base model again and put it where it ships
	.venv/bin/python -m tests.demo.ship_base_model

docs: .venv/docs.stamp  ## build the docs site in site/; a broken link is an error
	.venv/bin/mkdocs build --strict --quiet

screenshots: .venv/dev.stamp  ## pictures of the board, for the README (needs chromium)
	.venv/bin/python -m tests.dashboards.screenshots

.venv/%.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mipo-eval needs Python 3.11 or newer: make PYTHON=/path/to/it" >&2; exit 1; }
	@echo "Installing mipo-eval[$*] into .venv; the first time takes a few minutes"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) -e '.[$*]'
	@touch $@

.PHONY: help demo demo-real test check docs wheel-test test-push test-vllm test-rebuild soak mutate bench \
	base-model screenshots
.PRECIOUS: .venv/%.stamp
