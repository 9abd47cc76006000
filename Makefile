# The one door for users, developers and CI. `make help` lists what there is.
VENV ?= .venv
PY := $(VENV)/bin/python
METARL := $(VENV)/bin/metarl
READY := $(VENV)/.ready
ENGINE := $(VENV)/.engine
RUN ?= runs/demo
NAMES ?= rl2-gridworld rl2-bandit rl2-tabular-mdp maml-navigation finetune-navigation
export VENV TORCH PIP_ARGS PYTHON

.PHONY: help setup demo demo-ml1 test test-kernels test-gpu same kill launch-kill learn graph coverage lint format types arch check bench bench-agents parity worlds-audit fuzz-maps numbers build clean
.DELETE_ON_ERROR:

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) $(ENGINE)  ## make .venv with everything in it (TORCH=, PIP_ARGS=, PYTHON=, VENV= choose others)

$(READY): pyproject.toml constraints.txt .ci/setup.sh
	@bash .ci/setup.sh

# A compiler may appear later: without one the recipe leaves no file, and every make looks again.
$(ENGINE): $(READY) $(wildcard envs/metaworld/native/*.?pp)
	@bash .ci/engine.sh $@

demo: setup  ## meta-train on the gridworld, evaluate on held-out episodes, draw the adaptation curve
	$(METARL) train rl2-gridworld --run-dir $(RUN) --resume auto
	$(METARL) evaluate $(RUN)

demo-ml1: RUN := runs/demo-ml1
demo-ml1: setup  ## the same on Meta-World ML1 reach
	$(METARL) train ml1-reach-quick --run-dir $(RUN) --resume auto
	$(METARL) evaluate $(RUN)

test: setup  ## the whole test suite
	$(PY) -m pytest

coverage: setup  ## the test suite, and how much of the code it runs (no part of what subprocesses run)
	COVERAGE_CORE=sysmon $(PY) -m pytest --cov=metarl --cov=./agents --cov=./envs --cov=./experiments --cov-report=term:skip-covered

test-kernels: setup  ## the numerical tests with other kernels of BLAS and PyTorch, which round in other ways
	MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default $(PY) -m pytest -p tests.other_kernels tests/agents tests/metarl

test-gpu: setup  ## on a machine with a GPU: every agent and tensor world there, against the same on the CPU (a minute)
	@$(PY) -c "import torch; raise SystemExit(0 if torch.cuda.is_available() else 'no GPU that torch can use: nothing was tested')"
	$(PY) -m pytest tests/gpu

# Not after `setup`: it also runs in a second checkout whose environment is a link to the first one's.
graph: setup  ## write who imports whom into docs/architecture.md
	$(PY) -m tools.import_graph

same:  ## do agents, worlds and presets compute what they did before a rebuild? (2 minutes; BASE= another commit)
	$(PY) -m tools.same --base "$(BASE)"

kill: setup  ## kill every kind of agent at every operation on files, resume, compare bit for bit (an hour or two)
	$(PY) -m tests.experiments.crash.kill_every_agent

launch-kill: setup  ## launch a grid, kill it in every way, compare bit for bit (five minutes)
	$(PY) -m tests.launch_kill --into experiments/results/launch-kill.json

learn: setup  ## five published experiments again, an hour on 2 cores (NAMES= chooses others, NAMES=all takes all)
	$(METARL) reproduce $(NAMES)

lint: setup  ## ruff and codespell: errors, style, formatting, spelling
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m codespell_lib

format: setup  ## let ruff rewrite the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: setup  ## mypy --strict on the four packages and the tools
	$(PY) -m mypy

arch: setup  ## import-linter: who may import whom
	$(VENV)/bin/lint-imports

check: lint types arch test  ## everything a change must pass

bench: setup  ## where the time of a training iteration goes, per agent
	$(METARL) bench profile rl2-gridworld
	$(METARL) bench profile maml-navigation

parity: setup  ## the Meta-World engine against upstream, every number (15 to 30 minutes on 2 cores)
	$(METARL) bench parity --goals-v1 1 --leak 1000000 --out experiments/results/metaworld-parity.json

bench-metaworld: setup  ## speed of Meta-World's engine beside its peers and the bare physics (10-20 minutes, quiet machine)
	$(METARL) bench metaworld
	$(METARL) bench metaworld --collect

bench-agents: setup  ## CPU seconds, memory and arithmetic of updates at the published sizes (about 40 minutes, quiet machine)
	$(METARL) bench agents

worlds-audit: setup  ## are the NPC worlds benchmarks: room to adapt, worth exploring, no leaks, golden values (minutes)
	$(METARL) worlds audit

fuzz-maps: setup  ## 12,000 damaged worlds: each must load or be refused, none may crash or hang (minutes)
	$(PY) -m tests.envs.npc.maps.map_fuzzer --files 12000

numbers: setup  ## write the numbers of README and docs anew from the committed results
	$(PY) -m tools.refresh_docs

build: setup  ## wheel and sdist, each tried in a bare environment
	@bash .ci/build.sh

clean:  ## remove caches and build products; .venv and runs stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .setup build dist *.egg-info
	find metarl envs agents experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
