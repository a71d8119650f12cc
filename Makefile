# Everything sets itself up: a virtual environment, the build tools, the build.
#
#   make demo    watch a real KVM guest's memory
#   make test    all tests; what lacks a program says how to install it
#   make bench   how fast, as ratios measured here; bench-docs keeps them in docs/benchmarks.md
#   make slowdown    how much tracing slows redis-server and QEMU guests down, into docs/tracing-cost.md
#   make lint    ruff and mypy
#   make recordings   record anew what the pictures show; make pictures draws them

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-c test-python bench bench-docs slowdown lint pictures recordings clean headers

demo: $(VENV)/ready
	@$(BIN)/mempattern demo

test: test-c test-python

# Configured anew each time, for it may be that what a test lacked is installed by now.
test-c: $(VENV)/ready
	@for kind in c c-sanitized; do \
	    said=$$(meson setup build/$$kind --reconfigure --clearcache \
	        -Dnative_tests=true -Db_lundef=false \
	        -Db_sanitize=$$([ $$kind = c ] && echo none || echo address,undefined)) \
	    || { echo "$$said"; exit 1; }; \
	    meson test -C build/$$kind --print-errorlogs || exit 1; \
	    grep -h '^skipped: ' build/$$kind/meson-logs/testlog.txt || true; \
	done

test-python: $(VENV)/ready
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

bench: $(VENV)/ready
	$(BIN)/python -m pytest benches -q --benchmark-columns=min,median,max

# The same, with its raw values and the table made from them kept in the repository.
bench-docs: $(VENV)/ready
	@mkdir -p benches/results
	$(BIN)/python -m pytest benches -q --benchmark-columns=min,median,max \
	    --benchmark-json=benches/results/foundation.json
	$(BIN)/python benches/table.py benches/results/foundation.json > docs/benchmarks.md

slowdown: $(VENV)/ready
	@mkdir -p benches/results
	$(BIN)/python benches/slowdown.py benches/results/slowdown.json
	$(BIN)/python benches/slowdown_table.py benches/results/slowdown.json > docs/tracing-cost.md

lint: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[lint]'
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

pictures: $(VENV)/ready
	$(BIN)/python docs/draw.py

recordings: $(VENV)/ready
	rm -f src/mempattern/sample/demo.mpt
	$(BIN)/mempattern demo --record src/mempattern/sample/demo.mpt
	docs/record_redis.sh

clean:
	rm -rf $(VENV) build

# The package, editable: Python changes are live, and C changes are rebuilt on import.
$(VENV)/ready: pyproject.toml | headers
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check 'meson-python>=0.17' 'meson>=1.5' ninja 'cffi>=2.1'
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[test,bench]'
	touch $@

# Debian's gcc and python3 come without the headers that a C extension needs.
headers:
	@echo '#include <Python.h>' | $${CC:-cc} -fsyntax-only -x c -I"$$($(PYTHON) -c \
	    'import sysconfig; print(sysconfig.get_paths()["include"])')" - 2>/dev/null \
	|| { echo "The C headers of Python are missing; installing python3-dev and libc6-dev."; \
	     export DEBIAN_FRONTEND=noninteractive; \
	     apt-get install -y -qq python3-dev libc6-dev >/dev/null \
	     || { apt-get update -qq && apt-get install -y -qq python3-dev libc6-dev >/dev/null; } \
	     || { echo "That needs root. Run: sudo apt-get install python3-dev libc6-dev"; exit 1; }; }
