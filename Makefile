# Every target makes what it needs, beginning with its own virtual environment; see `make help`.
# Needed: python 3.11 or later with venv, gcc, make. cmake is fetched into the venv if absent.

VENV ?= .venv
PORT ?= 8000
APP ?= examples.welcome:app
JOBS ?= 2
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=

# A name on PATH may be a shim for an interpreter that is switched off, so each one is run.
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
  echo $$p && break; done)
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

PY := $(abspath $(VENV))/bin/python
PIP := $(PY) -m pip install -qq
TABLE := import sys, tomllib; t = tomllib.load(open("pyproject.toml", "rb"))
CTEST = ctest
CTEST_RUN := --output-on-failure --no-tests=error -j $(JOBS)
REPORTS := build/reports/$(notdir $(VENV))
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help build run test test-c test-tsan test-wheel check-rebuild coverage conformance \
  bench-http bench-kernel fuzz wheel lint clean ctest-plain bench-shared-queue kill-shared-queue
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done

# --- environment: each stamp stands for one kind of installation in $(VENV)

$(VENV)/.stamp-venv: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python 3.11 or later with venv found; set PYTHON"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PIP) -U $$($(PY) -c '$(TABLE); print(*t["build-system"]["requires"])')
	@command -v cmake >/dev/null || $(PIP) cmake ninja
	@touch $@

# The package itself, its dependencies and the `flowcore` command; the C is built by `build`.
$(VENV)/.stamp-install: $(VENV)/.stamp-venv README.md
	@FC_SKIP_EXT=1 $(PIP) --no-build-isolation --config-settings editable_mode=compat -e '.[test]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-install
	@$(PIP) $$($(PY) -c '$(TABLE); print(*t["project"]["optional-dependencies"]["dev"])')
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-install
	@$(PIP) $$($(PY) -c '$(TABLE); print(*t["project"]["optional-dependencies"]["bench"])')
	@$(PIP) faster-fifo || echo "faster-fifo cannot be built: measuring without it"
	@touch $@

README.md:
	@test -e $@ || { echo "README.md is missing"; exit 1; }

build: $(VENV)/.stamp-install ## compile what changed, in place, for the venv's Python
	@$(PY) setup.py -q build_ext --inplace

# The example's curl lines, where it has some: examples.welcome:app -> examples/welcome/curl.txt.
CURL = $(wildcard $(subst .,/,$(firstword $(subst :, ,$(APP))))/curl.txt)
run: build ## serve the welcome example (APP=module:app PORT=8000)
	@$(if $(CURL),echo "to try from another shell:"; \
	  sed 's|^|  |; s|BASE|http://127.0.0.1:$(PORT)|' $(CURL))
	@exec $(VENV)/bin/flowcore serve $(APP) --port $(PORT)

# --- tests

# $(call ctest,directory,cmake options): configure, build (silent unless it fails), run.
define ctest
	@mkdir -p build/$(1) $(REPORTS)
	@{ cmake -S . -B build/$(1) $(2) && cmake --build build/$(1) -j $(JOBS); } \
    >build/$(1)/build.log 2>&1 || { cat build/$(1)/build.log; exit 1; }
	$(CTEST) --test-dir build/$(1) $(CTEST_RUN) --output-junit $(CURDIR)/$(REPORTS)/$(1).xml
endef

ctest-plain: $(VENV)/.stamp-venv
	$(call ctest,c)

test: build ## C unit tests and pytest; the last line is "N passed, N failed"
	@rm -rf $(REPORTS); mkdir -p $(REPORTS); rc=0; \
	$(MAKE) --no-print-directory ctest-plain || rc=1; \
	$(PY) -m pytest -q --junitxml=$(REPORTS)/pytest.xml $(PYTEST_ARGS) || rc=1; \
	$(PY) .ci/tally.py $(REPORTS)/c.xml $(REPORTS)/pytest.xml || rc=1; exit $$rc

test-c: $(VENV)/.stamp-venv ## C tests and fuzz corpora under AddressSanitizer and UBSan
	$(call ctest,asan,-DFC_SANITIZE=address,undefined -DFC_WERROR=ON)

# TSan cannot map its shadow under a high-entropy address layout; some containers forbid setarch.
test-tsan: CTEST = $(shell setarch -R true 2>/dev/null && echo setarch -R) ctest
test-tsan: $(VENV)/.stamp-venv ## C tests under ThreadSanitizer
	$(call ctest,tsan,-DFC_SANITIZE=thread)

check-rebuild: $(VENV)/.stamp-install ## an edit to csrc must rebuild and relink what uses it
	@mkdir -p $(REPORTS)
	$(PY) -m pytest -q --junitxml=$(REPORTS)/rebuild.xml tests/test_rebuild.py

wheel: $(VENV)/.stamp-dev ## sdist, and a wheel built from it, in dist/
	@rm -rf dist
	$(PY) -m build -q --outdir dist .

# The copy of the tests stands where no flowcore/ directory is, so only the wheel can be imported.
WHEEL_RUN := build/wheel-run
WHEEL_PY := $(CURDIR)/build/wheel-venv/bin/python
test-wheel: wheel ## run pytest against the installed wheel
	@rm -rf build/wheel-venv $(WHEEL_RUN); mkdir -p $(WHEEL_RUN) $(REPORTS)
	@$(PY) -m venv build/wheel-venv
	@for w in dist/*.whl; do $(WHEEL_PY) -m pip install -q "$$w[test]"; done
	@cp -r tests examples docs bench pyproject.toml README.md $(WHEEL_RUN)
	@cd $(WHEEL_RUN) && $(WHEEL_PY) -c \
	  'import flowcore, sys; sys.exit("wheel-venv" not in flowcore.__file__ and flowcore.__file__)'
	cd $(WHEEL_RUN) && PATH="$(dir $(WHEEL_PY)):$$PATH" $(WHEEL_PY) -m pytest -q \
	  --junitxml=$(CURDIR)/$(REPORTS)/wheel.xml $(PYTEST_ARGS)

# --- measurement

# A copy, because traced extensions and their C files would stay behind in the tree.
# One test raises from a signal handler, which inside the tracer ends the tracing; the others weigh
# the process, tracer included. Processes that tests start are traced in the second run.
UNTRACED := test_an_error_raised_by_a_plain_handler or leave_nothing_behind
COV := build/coverage
coverage: $(VENV)/.stamp-dev ## line coverage of .py/.pyx (coverage.py) and csrc (gcov)
	@rm -rf $(COV); mkdir -p $(COV)
	@tar -cf - --exclude=./build --exclude=./dist --exclude='./.venv*' --exclude=./.git \
	  --exclude='*.so' . | tar -xf - -C $(COV)
	@cd $(COV) && FC_COVERAGE=1 $(PY) setup.py -q build_ext --inplace
	@cd $(COV) && { cmake -S . -B build/c -DFC_COVERAGE=ON && cmake --build build/c -j $(JOBS); } \
	  >cmake.log 2>&1 || { cat cmake.log; exit 1; }
	@cd $(COV); rc=0; ctest --test-dir build/c $(CTEST_RUN) || rc=1; \
	PYTHONPATH=$(CURDIR)/$(COV) COVERAGE_CORE=ctrace $(PY) -m coverage run -m pytest -q \
	  --timeout=600 -k 'not ($(UNTRACED))' $(PYTEST_ARGS) || rc=1; \
	PYTHONPATH=$(CURDIR)/$(COV) COVERAGE_CORE=ctrace $(PY) -m coverage run \
	  --rcfile=.ci/coverage-processes.toml -m pytest -q --timeout=600 tests/cli || rc=1; \
	$(PY) -m coverage combine -q --append || rc=1; \
	echo "== Python and Cython"; $(PY) -m coverage report --show-missing || rc=1; \
	echo "== csrc"; $(PY) -m gcovr -r . --filter csrc/src/ --filter csrc/include/ \
	  --gcov-ignore-errors=no_working_dir_found --print-summary build || rc=1; exit $$rc

PAGE ?=
conformance: build $(VENV)/.stamp-bench ## CPython's tests of asyncio on flowcore and on uvloop (PAGE=docs/conformance.md)
	@cd tests && PYTHONPATH=$(CURDIR)/tests $(PY) -m conformance.report \
	  $(if $(PAGE),--write $(abspath $(PAGE)))

bench-http: build $(VENV)/.stamp-bench ## the HTTP benchmark against its rivals
	$(PY) bench/bench_http.py

ONLY ?=
BENCH_ARGS ?=
PYTEST_BENCH := --benchmark-enable --benchmark-columns=min,median,iqr,ops --benchmark-sort=min
bench-kernel: build $(VENV)/.stamp-bench ## the kernel against its rivals (ONLY=pools,queues)
	$(PY) bench/bench_kernel.py $(if $(ONLY),--only $(ONLY)) $(BENCH_ARGS)
	$(if $(ONLY),,$(PY) -m pytest -q $(PYTEST_BENCH) bench/test_kernel_benchmarks.py)

bench-shared-queue: build $(VENV)/.stamp-bench ## SharedQueue against its rivals, in full
	$(PY) bench/bench_shared_queue.py

ROUNDS ?= 1000
kill-shared-queue: build ## kill -9 of a SharedQueue's processes at random moments, ROUNDS times
	$(PY) tests/kernel/shared_queue_kill.py --rounds $(ROUNDS)

fuzz: $(VENV)/.stamp-venv ## each fuzz target for FUZZ_SECONDS under libFuzzer (clang)
	@command -v clang >/dev/null || { echo "make fuzz needs clang"; exit 1; }
	@mkdir -p build/fuzz
	@{ cmake -S . -B build/fuzz -DCMAKE_C_COMPILER=clang -DFC_FUZZ=ON \
	  -DFC_SANITIZE=address,undefined && cmake --build build/fuzz -j $(JOBS); } \
	  >build/fuzz/build.log 2>&1 || { cat build/fuzz/build.log; exit 1; }
	@for f in csrc/fuzz/fuzz_*.c; do n=$$(basename $$f .c); c=$${n#fuzz_}; \
	  mkdir -p build/fuzz/corpus/$$c; echo "== $$n"; \
	  build/fuzz/$$n -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/$$n- \
	    -print_final_stats=1 -verbosity=0 build/fuzz/corpus/$$c csrc/fuzz/corpus/$$c || exit 1; \
	done

# --- upkeep

STUBBED = $(shell find flowcore -name '[!_]*.pyx' | sed 's/\.pyx$$//; s|/|.|g' | sort)
lint: build $(VENV)/.stamp-dev ## ruff, mypy --strict, and the stubs against the built modules
	$(PY) -m ruff check setup.py .ci flowcore tests bench examples csrc
	$(PY) -m mypy --strict flowcore
	$(if $(STUBBED),$(PY) -m mypy.stubtest --allowlist .ci/stubtest-allow.txt \
	  --ignore-unused-allowlist $(STUBBED))

clean: ## remove what was built; the virtual environments stay
	rm -rf build dist flowcore.egg-info .coverage
	find flowcore -name '*.so' -delete
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
