# A thin index of commands; the work is in cargo and scripts/. CARGO_TARGET_DIR is respected.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help run setup test check fmt bench load images up down logs proto-lock

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: ## build a release binary and start a cluster on this machine
	cargo build --release --locked
	$(TARGET)/release/meshos local

setup: ## install what the tests need and this machine lacks
	scripts/setup tests

test: setup ## all tests, those with etcd and Docker included (MESHOS_TEST_SKIP_DOCKER=1: without Docker)
	test -n "$$MESHOS_TEST_SKIP_DOCKER" || scripts/images
	cargo test --workspace --locked

check: ## formatting, lints, dependencies, documentation
	scripts/setup check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	RUSTDOCFLAGS="-Dwarnings -Arustdoc::private_intra_doc_links" \
		cargo doc --workspace --no-deps --document-private-items --locked
	scripts/coverage

fmt: ## format the code
	cargo fmt --all

bench: ## measure a release binary on this machine
	cargo build --release --locked
	cargo run --quiet --locked --package meshos-loadtest -- --binary $(TARGET)/release/meshos

LOAD := $(TARGET)/release/meshos-loadtest --binary $(TARGET)/release/meshos

load: ## measure a large cluster on this machine: a quarter of an hour, 16 GB
	scripts/setup tests
	cargo build --release --locked --package meshos --package meshos-loadtest
	$(LOAD) --scenario cluster --agents 50000 --tasks 200000
	$(LOAD) --scenario failover --agents 10000 --tasks 100000
	$(LOAD) --scenario failover --agents 10000 --tasks 100000 --history 100000
	$(LOAD) --scenario failover --agents 40000 --tasks 400000
	$(LOAD) --scenario reconcile --agents 10000 --tasks 100000
	$(LOAD) --scenario cluster --agents 10000 --streams 1 --fleets 4 --tasks 40000

images: ## build the container images meshos and meshos-etcd
	scripts/docker-engine start
	scripts/images

up: images ## start the cluster of compose.yaml
	scripts/compose up -d

down: ## stop it; its data stays (scripts/compose down -v removes that too)
	scripts/compose down

logs: ## follow its logs
	scripts/compose logs -f --tail=50

proto-lock: ## accept a deliberate change of the protocols
	MESHOS_UPDATE_LOCK=1 cargo test --locked --package meshos-proto --test lock
