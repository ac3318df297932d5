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
# Workspaces of their own: the guests.
guests := $(wildcard plugins/Cargo.toml tests/hostile/guests/Cargo.toml tests/bench/rules/Cargo.toml examples/rules/*/Cargo.toml)

.PHONY: help setup servers guests build demo test-guests test hostile fuzz bench stand lint format clippy deny house clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: servers guests ## install what tests need: the servers of the stand, the guests' tool chain

servers:
	scripts/setup-servers

guests: ## compile the guests inside the program into target/guests
	scripts/guests

build: guests ## target/release/postroom, with the guests inside
	cargo build --release --locked

demo: build ## 14 mails become tickets, notes and alerts; edit a rule and see it change
	target/release/postroom demo

test-guests: guests
	scripts/guests hostile
	scripts/guests examples

test: setup test-guests ## every test, on real servers
	bash tests/toolchain/run
	CARGO_TARGET_DIR=target/guests-build cargo test --release --locked --manifest-path plugins/Cargo.toml
	cargo build $(host)
	scripts/guests scaffolds
	cargo test $(host) --no-fail-fast

hostile: setup test-guests ## each promise under attack by itself, bounded, with a table of what held; ONLY='imap' narrows
	cargo build $(host)
	target/release/postroom-hostile $(ONLY)

fuzz: guests ## look for inputs that break the parsers, a minute each; SECS=10, ONLY='mime html' narrow
	SECS=$(or $(SECS),60) bash tests/fuzz/run $(ONLY)

bench: setup guests ## throughput, sandbox cost, save-to-live and memory, beside other tools
	scripts/guests bench
	cargo build $(host)
	bash tests/bench/run

stand: setup ## bring the test servers up, print their ports, stay until Ctrl-C
	cargo build --release --locked && exec target/release/stand

lint: format clippy deny house ## format, clippy, licences, the house's rules

format:
	cargo fmt --all --check
	for guest in $(guests) tests/fuzz/engine/Cargo.toml; do cargo fmt --all --check --manifest-path "$$guest"; done

# Guests are read as code of this machine: a distribution's wasm compiler brings no clippy.
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

clean: ## remove everything that was built
	rm -rf target
