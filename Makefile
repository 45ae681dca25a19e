SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := $(or $(CARGO_TARGET_DIR),target)/debug

CONTROL_PLANE := etcd kube-apiserver kube-controller-manager kubectl
PODS := kube-scheduler kwok webhook helm
JUDGES := helm-docs helm-schema promtool prometheus gitops
PYTHON_REQUIREMENTS := $(wildcard tests/*/requirements.txt)

.PHONY: help
help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

.PHONY: demo
demo: tools control-plane pods ## see it work on this machine; KEEP=1 leaves it running
	cargo build --workspace --bins
	@$(BIN)/demo $(if $(KEEP),--keep)

.PHONY: demo-stop
demo-stop: ## end the demo that KEEP=1 left running
	@if [ -x $(BIN)/demo ]; then $(BIN)/demo stop; \
	elif [ -e target/demo ]; then echo 'error: the demo was built elsewhere: make demo-stop with the CARGO_TARGET_DIR that make demo had.' >&2; exit 1; \
	else echo 'No demo is running.'; fi

# In the end, what the API servers saw of the operator in all tests is compared with what it may do, and all that it
# said, at trace level, is searched for every token and every Secret that there was.
AUDIT_LOGS = $(abspath $(BIN))/audit-logs
OUTPUTS = $(abspath $(BIN))/outputs

.PHONY: test
test: tools control-plane pods judges python ## run all tests
	cargo build --workspace --bins
	@rm -rf $(AUDIT_LOGS) $(OUTPUTS)
	LAB_AUDIT_LOGS=$(AUDIT_LOGS) LAB_OUTPUTS=$(OUTPUTS) cargo test --workspace
	LAB_AUDIT_LOGS=$(AUDIT_LOGS) cargo test --workspace --test least_privilege
	LAB_AUDIT_LOGS=$(AUDIT_LOGS) LAB_OUTPUTS=$(OUTPUTS) cargo test --workspace --test secrets_search -- --nocapture
	@$(MAKE) --no-print-directory simulate LIMIT=300

SIMULATE = $(or $(CARGO_TARGET_DIR),target)/simulation/simulate

.PHONY: simulate
simulate: tools ## run the operator through SEEDS=10000 made-up histories; SEED=7 tells one of them
	cargo build --package simulation --profile simulation
	@$(SIMULATE) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000) $(if $(FROM),--from $(FROM)) $(if $(LIMIT),--limit $(LIMIT)))

.PHONY: chaos
chaos: tools control-plane ## kill the operator at each of its writes, and all that takes long; CHAOS=create,delete only these
	cargo build --workspace --bins
	cargo test --workspace --test chaos -- --ignored --nocapture
	$(if $(CHAOS),,cargo test --workspace --test cluster -- --ignored --nocapture)

SECONDS ?= 60

# As simulation: fast as soon as it is compiled.
fuzz: export CARGO_PROFILE_RELEASE_LTO = off
fuzz: export CARGO_PROFILE_RELEASE_OPT_LEVEL = 1

.PHONY: fuzz
fuzz: ## feed every parser what nobody expects, SECONDS=60 each; takes a nightly compiler
	@[[ "$(SECONDS)" != 0 ]] || { echo 'error: SECONDS=0 would never end: a number of seconds, from 1 on.' >&2; exit 1; }
	@cargo +nightly --version >/dev/null 2>&1 || { echo 'error: the fuzzer takes a nightly compiler: rustup toolchain install nightly' >&2; exit 1; }
	@command -v cargo-fuzz >/dev/null || { echo 'Installing cargo-fuzz, once: it builds and runs the fuzzers.'; cargo install cargo-fuzz --locked; }
	@for file in tests/fuzz/fuzz_targets/*.rs; do target=$$(basename "$$file" .rs); mkdir -p target/fuzz/corpus/$$target; \
	  cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --features libfuzzer --sanitizer none $$target \
	    target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- -max_total_time=$(SECONDS) -timeout=10 -dict=tests/fuzz/words.dict; done

.PHONY: bench
bench: tools control-plane ## measure what the operator costs; ONLY=latency,fleet,shapes,throttle,growth a part of it
	@tests/python/venv conformance tests/conformance/requirements.txt >/dev/null
	cargo build --release --package airflow-workload-identity --package azure-emulator --package bench --bins
	@$(or $(CARGO_TARGET_DIR),target)/release/bench $(if $(ONLY),--only $(ONLY))

.PHONY: check
check: tools ## look at format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: image
image: tools ## build the container image, and run it as a cluster would
	cargo build --release --locked --bin awi
	tests/image/check

.PHONY: generate
generate: tools ## write crds/, and what comes from it and the chart, anew
	cargo build --workspace --bins
	$(BIN)/awi crd --out crds
	@charts/generate

.PHONY: tools
tools:
	@tests/tools

# The binaries that the tests use, before the tests: it takes minutes the first time.
.PHONY: control-plane
control-plane:
	@tests/binaries/build $(CONTROL_PLANE) >/dev/null

# What schedules pods, makes them look alive, and injects tokens into them; Helm installs the last of these.
.PHONY: pods
pods:
	@tests/binaries/build $(PODS) >/dev/null

# Other projects' programs, which tests ask what they make of the chart, the rules and the status.
.PHONY: judges
judges:
	@tests/binaries/build $(JUDGES) >/dev/null

.PHONY: python
python:
	@for file in $(PYTHON_REQUIREMENTS); do tests/python/venv "$$(basename "$$(dirname "$$file")")" "$$file" >/dev/null; done
