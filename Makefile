# Every target works from a fresh clone. One profile, release: demo, tests and bench share one build.
#
# POSTROOM_WASM_TOOLCHAIN=auto|rustup|debian chooses how guests are compiled (scripts/toolchain).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

export POSTROOM_WASM_TOOLCHAIN ?= auto
CARGO_DENY := 0.20.2
host := --release --locked --workspace
# The guests are separate workspaces.
guests := $(wildcard plugins/Cargo.toml tests/hostile/guests/Cargo.toml tests/bench/rules/Cargo.toml examples/rules/*/Cargo.toml)

.PHONY: help setup servers node guests build demo test-guests test hostile fuzz compare bench stand lint format clippy deny house clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: servers guests ## install the test dependencies: the servers of the stand, the guests' toolchain

servers:
	scripts/setup-servers

node:
	scripts/setup-servers node

guests: ## compile the built-in guests into target/guests
	scripts/guests

build: guests ## build target/release/postroom, with the guests
	cargo build --release --locked

demo: build ## turn 14 mails into tickets, notes and alerts; edit a rule and see the change
	target/release/postroom demo

test-guests: guests
	scripts/guests hostile
	scripts/guests examples

test: setup test-guests ## run every test, on real servers
	bash tests/toolchain/run
	CARGO_TARGET_DIR=target/guests-build cargo test --release --locked --manifest-path plugins/Cargo.toml
	cargo build $(host)
	scripts/guests scaffolds
	cargo test $(host) --no-fail-fast

hostile: setup test-guests ## test each promise under attack separately, bounded, with a table of results; ONLY='imap' selects
	cargo build $(host)
	target/release/postroom-hostile $(ONLY)

fuzz: guests ## search for inputs that break the parsers, a minute each; SECS=10, ONLY='mime html' select
	SECS=$(or $(SECS),60) bash tests/fuzz/run $(ONLY)

compare: node ## compare the parser with three others on public mails; UPDATE=1 lists new differences, ONLY='notmuch' selects
	cargo build --release --locked -p postroom-compare
	tests/compare/run $(if $(UPDATE),--update) $(ONLY)

bench: setup guests ## measure throughput, sandbox cost, save-to-live and memory, compared with other tools
	scripts/guests bench
	cargo build $(host)
	bash tests/bench/run

stand: setup ## start the test servers, print their ports, run until Ctrl-C
	cargo build --release --locked && exec target/release/stand

lint: format clippy deny house ## check format, clippy, licences and the house's rules

format:
	cargo fmt --all --check
	for guest in $(guests) tests/fuzz/engine/Cargo.toml; do cargo fmt --all --check --manifest-path "$$guest"; done

# Guests are checked as code for this machine: a distribution's wasm compiler has no clippy.
clippy: guests
	cargo clippy $(host) --all-targets -- -D warnings
	for guest in $(guests); do \
	  CARGO_TARGET_DIR=target/guests-clippy cargo clippy --locked --workspace --all-targets \
	    --manifest-path "$$guest" -- -D warnings; \
	done

deny:
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@$(CARGO_DENY)
	cargo deny --locked check bans licenses sources

house:
	scripts/check-house

clean: ## remove all build results
	rm -rf target
