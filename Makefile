# Everything sets itself up: a virtual environment, the build tools, the build.
#
#   make demo    watch a real KVM guest's memory
#   make test    all tests; what lacks a program says how to install it
#   make bench   how fast, as ratios measured here; bench-docs keeps them in docs/benchmarks.md
#   make bench-compare BASE=main    this tree against another revision; BENCH="group_counts or jit"
#                chooses benches (default: all), ROUNDS says how often
#   make instructions    count anew the instructions that the tests hold the C core to
#   make growth  how time and memory grow with the guest, into docs/growth.md
#   make large-page    report on 10 000 intervals of a 1 TiB guest, and open the page (half an hour), into
#                docs/report-results.md
#   make slowdown    how much tracing slows redis-server and QEMU guests down, into docs/tracing-cost.md
#   make migrations  migrate real guests again and record it (hours; root); make forecast holds the
#                forecast and MP against these and makes the tables and pictures of the docs;
#                make validate holds the simulator against them, make evidence all policies against
#                each other over them and the corpus
#   make reproduce   migrate real guests under MP and its rivals (hours; root), into docs/reproduce.md
#   make corpus      record again the guests and programs in benches/data/corpus (half an hour; root)
#   make patterns    how well kinds of patterns are told (minutes), into docs/patterns-results.md; make curve
#                tries D(t)'s bounds, for docs/statistics.md
#   make fuzz    every fuzz target for FUZZ_S seconds (7); make fuzz-TARGET one of them (fuzz/run.py)
#   make search  what properties do not hold, by other cases each time (half an hour; SEARCH=short: minutes)
#   make soak    that; hammer under ThreadSanitizer; then trace a busy process for SOAK_MIN minutes (60) and
#                fuzz each target for FUZZ_S (400) beside it; what came of it goes into docs/abuse.md
#   make arm64   the C tests as on arm64, under qemu-user; portability runs them and the wheel on every
#                Python there is (root and debootstrap: on Debian's newest and for arm64), and keeps
#                what came out in docs/portability.md
#   make wheel   build the wheel into dist/ and audit it
#   make install-c PREFIX=/usr/local    the C library: header, shared and static, pkg-config
#   make lint    ruff, mypy and pyright
#   make stub    write anew the stub of the C core, after a change of its headers
#   make docs    the documentation into build/docs, and its doctests; make man writes the man pages
#   make recordings   record anew what the pictures, the README and the pages of docs show (root; redis,
#                QEMU and KVM); make pictures draws the pictures

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-c test-threads test-python bench bench-docs bench-compare growth large-page instructions \
        slowdown migrations forecast validate evidence reproduce corpus patterns curve fuzz search soak lint stub docs man pictures \
        recordings clean headers install-c arm64 wheel portability

demo: $(VENV)/ready
	@$(BIN)/mempattern demo

test: test-c test-python

# Configured anew each time, for it may be that what a test lacked is installed by now.
test-c: $(VENV)/ready
	@for kind in c:none c-sanitized:address,undefined; do \
	    into=build/$${kind%:*}; \
	    said=$$(meson setup $$into --reconfigure --clearcache \
	        -Dnative_tests=true -Db_lundef=false -Db_sanitize=$${kind#*:}) \
	    || { echo "$$said"; exit 1; }; \
	    meson test -C $$into --print-errorlogs || exit 1; \
	    grep -h '^skipped: ' $$into/meson-logs/testlog.txt || true; \
	done
	@$(MAKE) --no-print-directory test-threads
	@if aarch64-linux-gnu-gcc --version >/dev/null 2>&1 \
	    && qemu-aarch64-static --version >/dev/null 2>&1; \
	then $(MAKE) --no-print-directory arm64; \
	else echo 'skipped: nothing runs as on arm64: apt-get install gcc-aarch64-linux-gnu' \
	    'libc6-dev-arm64-cross qemu-user-static'; fi

# What has threads; what takes ThreadSanitizer minutes is for a soak.
RACES := test_threads test_ring_order test_interrupted
SLOW_RACES := test_stats test_distinct test_precopy \
              test_microvm_run test_microvm_log test_microvm_guests

# ThreadSanitizer's own map of the addresses does not go with all that the kernel shuffles.
test-threads: $(VENV)/ready
	@said=$$(meson setup build/c-threads --reconfigure --clearcache \
	    -Dnative_tests=true -Db_lundef=false -Db_sanitize=thread) || { echo "$$said"; exit 1; }
	meson test -C build/c-threads --wrapper 'setarch -R' -t 0 --print-errorlogs $(RACES)

# The C library and its tests cross-compiled, and the tests run by qemu-user.
arm64: $(VENV)/meson
	@said=$$($(BIN)/meson setup build/c-arm64 --reconfigure --clearcache \
	    --cross-file csrc/tests/arm64.ini -Dpython=false -Dnative_tests=true) \
	|| { echo "$$said"; exit 1; }
	$(BIN)/meson test -C build/c-arm64 --print-errorlogs

# libvirt-python is built against libvirt's headers; without them its tests are skipped.
test-python: $(VENV)/ready
	@! pkg-config --exists libvirt 2>/dev/null || $(BIN)/python -c 'import libvirt' 2>/dev/null \
	|| $(BIN)/pip install -q --disable-pip-version-check 'libvirt-python>=9'
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

bench: $(VENV)/ready
	$(BIN)/python -m pytest benches -q --benchmark-columns=min,median,max

# What judges: D(t), classifiers, compiled reducers.
VERDICTS := (distinct or classify or patterns or jit)
REPLAYS := (replay or recording)
PEERS := bench_peers

# The same, with its raw values and the table made from them kept in the repository.
bench-docs: $(VENV)/ready
	@mkdir -p benches/results
	$(BIN)/python -m pytest benches -q -k "not ($(VERDICTS) or $(REPLAYS) or $(PEERS))" \
	    --benchmark-columns=min,median,max --benchmark-json=benches/results/foundation.json
	$(BIN)/python -m pytest benches -q -k "$(VERDICTS)" \
	    --benchmark-columns=min,median,max --benchmark-json=benches/results/verdicts.json
	$(BIN)/python -m pytest benches -q -k "$(REPLAYS)" \
	    --benchmark-columns=min,median,max --benchmark-json=benches/results/replays.json
	$(BIN)/python -m pytest benches -q -k "$(PEERS)" \
	    --benchmark-columns=min,median,max --benchmark-json=benches/results/peers.json
	$(BIN)/python benches/table.py \
	    $(addprefix benches/results/,foundation.json verdicts.json replays.json) \
	    > docs/benchmarks.md
	$(BIN)/python benches/peers_table.py benches/results/peers.json >> docs/benchmarks.md

growth: $(VENV)/ready
	@mkdir -p benches/results
	$(BIN)/python benches/growth.py benches/results/growth.json
	$(BIN)/python benches/growth_report.py benches/results/growth.json > docs/growth.md
	$(BIN)/python docs/draw_growth.py

large-page: $(VENV)/ready
	@mkdir -p benches/results
	$(BIN)/python benches/large_page.py benches/results/large-page.json
	$(BIN)/python benches/large_page_report.py benches/results/large-page.json > docs/report-results.md

# The second revision is the working tree, with what is not committed.
BASE   ?= HEAD
ROUNDS ?= 5
bench-compare: $(VENV)/ready
	$(BIN)/python benches/revisions.py "$(BASE)" "$(BENCH)" "$(ROUNDS)"

instructions: $(VENV)/ready
	$(BIN)/python benches/instructions.py benches/results/instructions.json

slowdown: $(VENV)/ready
	@mkdir -p benches/results
	$(BIN)/python benches/slowdown.py benches/results/slowdown.json
	$(BIN)/python benches/slowdown_table.py benches/results/slowdown.json > docs/tracing-cost.md

# Sets that are complete are left as they are: remove build/migrations to begin anew.
migrations: $(VENV)/ready
	for set in dev dev-hard dev-fierce held held-hard held-fierce untraced; do \
	    $(BIN)/python benches/migration_run.py $$set build/migrations/$${set%%-*} || exit 1; \
	done
	mkdir -p benches/data
	for set in dev held untraced; do \
	    tar -cJf benches/data/migrations-$$set.tar.xz -C build/migrations $$set || exit 1; \
	done

forecast: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[plot]'
	$(BIN)/python benches/forecast_eval.py benches/results/forecast.json
	$(BIN)/python benches/forecast_report.py benches/results/forecast.json \
	    > docs/forecast-results.md
	$(BIN)/python docs/draw_forecast.py
	$(BIN)/python benches/classify_choice.py > docs/classify-results.md

validate: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[plot]'
	$(BIN)/python benches/replay_eval.py benches/results/replay.json
	$(BIN)/python benches/replay_report.py benches/results/replay.json > docs/replay-results.md
	$(BIN)/python docs/draw_replay.py

evidence: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[plot]'
	$(BIN)/python benches/evidence.py benches/results/evidence.json
	$(BIN)/python benches/evidence_report.py benches/results/evidence.json > docs/evidence.md
	$(BIN)/python docs/draw_evidence.py

# Goes on where it was interrupted: remove build/reproduce to begin anew. A few hours; needs root.
reproduce: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[plot]'
	mkdir -p build/reproduce
	$(BIN)/python benches/reproduce.py build/reproduce/results.jsonl
	cp build/reproduce/results.jsonl benches/results/reproduce.jsonl
	$(BIN)/python benches/reproduce_report.py benches/results/reproduce.jsonl > docs/reproduce.md
	$(BIN)/python docs/draw_reproduce.py

# Traces that are there are kept: remove them to record them anew.
corpus: $(VENV)/ready
	mkdir -p build
	$(BIN)/python benches/corpus.py benches/data/corpus
	$(BIN)/python benches/corpus_table.py benches/data/corpus > build/corpus.md
	mv build/corpus.md benches/data/corpus/README.md

patterns: $(VENV)/ready
	$(BIN)/python benches/patterns_choice.py benches/results/patterns.json
	$(BIN)/python benches/patterns_report.py benches/results/patterns.json \
	    > docs/patterns-results.md

curve: $(VENV)/ready
	$(BIN)/python benches/curve_trials.py benches/results/curve.json

# libFuzzer is clang's; the targets in Python have it from atheris.
FUZZ_S ?=
fuzz: $(VENV)/ready | fuzzers
	$(BIN)/python fuzz/run.py --seconds $(or $(FUZZ_S),7)

fuzz-%: $(VENV)/ready | fuzzers
	$(BIN)/python fuzz/run.py --seconds $(or $(FUZZ_S),7) $*

.PHONY: fuzzers
fuzzers: $(VENV)/ready
	@command -v clang >/dev/null || { echo "clang is missing. Run: sudo apt-get install \
	clang libclang-rt-dev libsimde-dev"; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[fuzz]'

SEARCH ?= expensive
search: $(VENV)/ready
	HYPOTHESIS_PROFILE=$(SEARCH) $(BIN)/python -m pytest -q -m hypothesis

SOAK_MIN ?= 60
soak: $(VENV)/ready | fuzzers
	@mkdir -p benches/results
	$(MAKE) --no-print-directory search
	$(MAKE) --no-print-directory test-threads RACES='$(RACES) $(SLOW_RACES)'
	@$(BIN)/python benches/soak.py $(SOAK_MIN) benches/results/soak.json & \
	trap "kill $$!" INT TERM; \
	$(BIN)/python fuzz/run.py --seconds $(or $(FUZZ_S),400) --results benches/results/fuzz.json; \
	fuzzed=$$?; wait $$! && exit $$fuzzed
	$(BIN)/python benches/soak_report.py $(addprefix benches/results/,fuzz.json soak.json) \
	    > docs/abuse.md

# Tests give what is no argument on purpose.
lint: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[lint]'
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy \
	&& $(BIN)/mypy --config-file benches/mypy.ini \
	&& $(BIN)/mypy --config-file benches/mypy.ini --disable-error-code arg-type tests \
	&& $(BIN)/basedpyright
	@mkdir -p build
	@PYTHONPATH=src $(BIN)/basedpyright --verifytypes mempattern --ignoreexternal >build/types.txt \
	|| { cat build/types.txt; exit 1; }

# After a change of what the C headers declare.
stub: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[lint]'
	$(BIN)/python csrc/native_stub.py | $(BIN)/ruff format --stdin-filename _native.pyi - \
	    > build/_native.pyi
	mv build/_native.pyi src/mempattern/_native.pyi

# A warning is an error: a link that leads nowhere, a name that is not on a page, a page in no contents.
SPHINX := $(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs
# Read anew (-E), since Sphinx does not see which docstrings have changed.
docs: $(VENV)/ready
	$(SPHINX) -E -b doctest build/doctest
	$(SPHINX) -b html build/docs
	@echo "build/docs/index.html"

# After a change of what a command takes.
man: $(VENV)/ready
	$(BIN)/python docs/man_pages.py man

pictures: $(VENV)/ready
	$(BIN)/python docs/draw.py
	$(BIN)/python docs/draw_report.py
	$(BIN)/mempattern replay docs/guest.mpt --policy all --bandwidth 1Gbit --max-downtime 1s \
	    --start 6s --plot docs/replay.png --force >/dev/null

recordings: $(VENV)/ready
	rm -f src/mempattern/sample/demo.mpt
	$(BIN)/mempattern demo --record src/mempattern/sample/demo.mpt
	docs/record_redis.sh
	docs/record_guest.sh
	docs/record_tutorial.sh
	$(BIN)/python docs/record_migration.py

wheel: $(VENV)/ready
	rm -f dist/mempattern-*.whl
	$(BIN)/pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w dist .
	$(BIN)/abi3audit --strict dist/mempattern-*.whl

portability: wheel arm64
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[portability]'
	$(BIN)/python benches/portability.py benches/results/portability.json
	$(BIN)/python benches/portability_report.py benches/results/portability.json \
	    > docs/portability.md

PREFIX ?= /usr/local
install-c: $(VENV)/meson
	@rm -rf build/lib
	@said=$$($(BIN)/meson setup build/lib -Dpython=false \
	    --prefix='$(abspath $(PREFIX))' --libdir=lib) || { echo "$$said"; exit 1; }
	$(BIN)/meson install -C build/lib --quiet

clean:
	rm -rf $(VENV) build

# The package, editable: Python changes are live, and C changes are rebuilt on import.
$(VENV)/ready: pyproject.toml $(VENV)/meson | headers
	$(BIN)/pip install -q --disable-pip-version-check 'meson-python>=0.17' 'cffi>=2.1'
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[test,bench,docs]'
	touch $@

# All that the C library needs.
$(VENV)/meson:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check 'meson>=1.5' ninja
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
