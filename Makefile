# Every target is one line of help behind `##`; bare `make` lists them.
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := bash

CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
CARGO_MUTANTS := 27.1.0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the release program, target/release/countersign
	@cargo build --locked --release -p countersign

.PHONY: test
test: ## Run every test, against real servers too (installs what is missing)
	@COUNTERSIGN_TOOLS=$$(e2e/tools/install | tail -n 1)
	export COUNTERSIGN_TOOLS
	cargo build --locked --workspace
	cargo test --locked --workspace --doc
	cargo test --locked --workspace --lib --bins --tests

.PHONY: lint
lint: ## Check format, lints, licences, dependencies, the chart, generated files
	@cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	go vet -C benches/load .
	go vet -C e2e/tools/tuf/go .
	cargo fmt --check --manifest-path e2e/tools/tuf/rust/Cargo.toml
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	tree=$$(cargo tree --locked -p countersign-verify -e normal --prefix none)
	if grep -E '^(axum|hyper|k8s-openapi|kube|reqwest|tokio)(-[a-z]+)* ' <<<"$$tree"; then
	  echo "countersign-verify must stay pure: no I/O, no async, no Kubernetes" >&2
	  exit 1
	fi
	cargo run --quiet --locked -p countersign -- crds | diff -u deploy/crds.yaml - ||
	  { echo 'deploy/crds.yaml is not what `countersign crds` prints: run `make crds`' >&2; exit 1; }
	COUNTERSIGN_TOOLS=$$(e2e/tools/install | tail -n 1) charts/lint
	cargo fetch --quiet --locked
	PATH=$$(e2e/tools/cargo-tool cargo-deny $(CARGO_DENY)):$$PATH
	cargo deny --offline --log-level error check bans licenses sources

.PHONY: demo
demo: ## Watch signed and unsigned images meet a real cluster (or the one of KUBECONFIG)
	@COUNTERSIGN_TOOLS=$$(e2e/tools/install | tail -n 1)
	export COUNTERSIGN_TOOLS
	cargo build --quiet --locked --workspace
	cargo run --quiet --locked -p countersign-e2e --bin demo

.PHONY: demo-down
demo-down: ## Take the demo's cluster down, or what a crash left of a test's
	@cargo run --quiet --locked -p countersign-e2e --bin cluster -- down

.PHONY: bench
bench: ## Measure speed and memory beside an echo; fails where a ratio is missed
	@COUNTERSIGN_TOOLS=$$(e2e/tools/install | tail -n 1)
	export COUNTERSIGN_TOOLS
	cargo build --locked --release -p countersign
	go build -C benches/load -o $(CURDIR)/target/release/countersign-load .
	cargo run --locked --release -p countersign-bench

.PHONY: soak
soak: ## Everything at once for an hour (SOAK_SECONDS); fails on a wrong verdict or a leak
	@COUNTERSIGN_TOOLS=$$(e2e/tools/install | tail -n 1)
	export COUNTERSIGN_TOOLS
	cargo build --locked --release -p countersign
	cargo run --locked --release -p countersign-e2e --bin soak

.PHONY: mutants
mutants: ## Change the verifier in small ways and see that a test fails each time
	@PATH=$$(e2e/tools/cargo-tool cargo-mutants $(CARGO_MUTANTS)):$$PATH
	export PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 PROPTEST_RNG_SEED=1
	# 3 says that the only ones left made a test run without end, which is noticed too.
	cargo mutants --package countersign-verify || [ $$? = 3 ]

.PHONY: fuzz
fuzz: ## Fuzz every parser, each for FUZZ_SECONDS (60)
	@PATH=$$(e2e/tools/cargo-tool cargo-fuzz $(CARGO_FUZZ)):$$PATH
	fuzz/run

.PHONY: crds
crds: ## Write deploy/crds.yaml and the chart's copy anew from the code
	@mkdir -p deploy
	cargo run --quiet --locked -p countersign -- crds >deploy/crds.yaml
	charts/generate charts/countersign

.PHONY: chart
chart: ## Write the chart's README and its definitions anew
	@charts/generate charts/countersign

.PHONY: tools
tools: ## Install what the tests and the demo run
	@e2e/tools/install

.PHONY: clean
clean: ## Remove everything built here (the tool cache stays)
	@cargo clean
