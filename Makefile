# The commands people and CI use; each installs what it lacks (scripts/setup.sh) before it begins.

export HOME := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6))
export PATH := $(PATH):$(HOME)/.cargo/bin:/opt/homebrew/opt/rustup/bin:/usr/local/opt/rustup/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run test check bench scale chaos soak

# The service with its own Postgres and Redis. A development build: its hot crates are optimised
# (Cargo.toml), it builds in half the time, and `make test` uses what it built.
run:
	@scripts/setup.sh run
	cargo build --locked --bin ai-cache
	@exec $(TARGET)/debug/ai-cache serve

# Builds the tests and the program, and lints them in the same pass: clippy's driver is the compiler
# of this package then, with the arguments that `cargo clippy -- -D warnings` gives it.
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings

# What CI runs. Without backtraces the last lines tell what a failed test said.
test:
	@scripts/setup.sh test
	cargo fmt --check
	$(LINTED) cargo test --locked --test it --no-run
	$(TARGET)/debug/ai-cache openapi | diff -u docs/openapi.json -
	RUST_BACKTRACE=0 $(LINTED) cargo test --locked --test it \
		--config "target.'cfg(all())'.runner = 'scripts/timed-tests.sh'"
	@scripts/tree-is-clean.sh

# What takes long to install.
check: test
	@scripts/setup.sh check
	cargo deny --locked check licenses bans sources
	cargo machete
	scripts/prepared-queries.sh

# Run by hand and quoted in notes, on an otherwise quiet machine.
bench:
	@scripts/setup.sh run
	cargo build --locked --release --bin ai-cache
	$(TARGET)/release/ai-cache bench --duration 20 --concurrency 64 --floor

# The fault tests with as many faults as are promised: part of `make test` with fewer.
chaos:
	@scripts/setup.sh test
	CHAOS=1 cargo test --locked --test it -- --nocapture --test-threads 1 resilience:: cli::kills cli::disk compliance:: security::dump

scale:
	@scripts/setup.sh run
	cargo build --locked --release --bin ai-cache
	$(TARGET)/release/ai-cache scale
	@scripts/setup.sh test
	SCALE=1 cargo test --locked --test it -- --nocapture --test-threads 1 compliance::scale resilience::plans resilience::size resilience::tiers

# Minutes of full load on the real program; its memory must be flat.
SOAK ?= 30
soak:
	@scripts/setup.sh test
	SOAK=$(SOAK) cargo test --locked --test it -- --nocapture resilience::soak
