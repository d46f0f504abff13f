# Everything that a developer runs.  Wanted on the machine: Python 3.10 or later, and make.

PYTHON ?= python3
PORT ?= 3000
# More options for `twistd stickyd` and for pytest: make serve OPTIONS='--workers 4'
OPTIONS ?=
TESTS ?=
# Processes that run the tests: more than two cores, because system tests mostly wait.  Files in
# their order, so that the system tests, which are the longest, come first.
TESTERS ?= 3
SOAK_SECONDS ?= 60
# How long each target of the fuzzer runs.
FUZZ_SECONDS ?= 1200

bin := .venv/bin

.PHONY: serve test lint types docs bench soak fuzz wheel clean

serve: .venv/ready
	@exec $(bin)/twistd -n --pidfile= stickyd --port $(PORT) $(OPTIONS)

# Compiled ahead: hundreds of processes import these, also where PYTHONDONTWRITEBYTECODE is set.
test: .venv/ready
	$(bin)/python -m compileall -q stickyd tests benchmarks twisted
	$(bin)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder $(TESTS)

lint: .venv/tools
	$(bin)/ruff check
	$(bin)/ruff format --check

types: .venv/tools
	$(bin)/mypy

docs: .venv/tools
	$(bin)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: .venv/ready
	$(bin)/python -m benchmarks.compare --smoke
	$(bin)/python -m benchmarks.steering --smoke
	$(bin)/python -m benchmarks.rehoming --smoke
	$(bin)/python -m benchmarks.sessions_in_redis --smoke
	$(bin)/python -m benchmarks.bus --smoke --without-redis

soak: .venv/ready
	SOAK_SECONDS=$(SOAK_SECONDS) $(bin)/python -m pytest --soak -m soak -s $(TESTS)

# By coverage; what Hypothesis thinks of is part of the tests.
fuzz: .venv/tools
	$(bin)/python -m tests.fuzzing requests --seconds $(FUZZ_SECONDS)
	$(bin)/python -m tests.fuzzing frames --seconds $(FUZZ_SECONDS)
	$(bin)/python -m tests.fuzzing first_bytes --seconds $(FUZZ_SECONDS)
	$(bin)/python -m tests.fuzzing applications --seconds $(FUZZ_SECONDS)

wheel: .venv/ready
	$(bin)/python -m build

# Made afresh whenever pyproject.toml changes, so that nothing stays that is no longer asked for.
.venv/ready: pyproject.toml
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,test]'
	@touch $@

.venv/tools: .venv/ready
	$(bin)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv tests/system/node/node_modules build dist docs/_build *.egg-info .mypy_cache .ruff_cache .hypothesis
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
