# `make help` lists what there is.
ARGS ?=
PKG ?=
# What the build needs beside the usual.
NEEDS =

.PHONY: help run test virtual-node soak bench peers spdk-plugin setup
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 21

run: setup ## measure this machine (quick) and leave a report; options by ARGS='--quiet …'
	cargo run --release --locked --package strata -- run quick $(ARGS)

test: setup ## run every test, and say what this machine could not run; one crate by PKG=strata-units
	@scripts/setup qemu || echo 'goes on without the virtual node' >&2
	@scripts/test $(if $(PKG),--package $(PKG),--workspace)

virtual-node: NEEDS = qemu
virtual-node: NODE = --package strata --package strata-virtual-node --test node
virtual-node: setup ## the command on drives, an IOMMU and two nodes in a QEMU guest: its tests, and a run (fetches 140 MB, once)
	cargo build --profile emulated --locked $(NODE) --bins
	@scripts/test --profile emulated $(NODE)
	@STRATA_BUILT=$${CARGO_TARGET_DIR:-target}/emulated scripts/reference-run $(or $(ARGS),--repeats 6 --duration 250ms --ramp 100ms)

soak: NEEDS = c++
soak: setup ## the long tests too, minutes each; then each fuzzer for ten (STRATA_FUZZ_SECONDS)
	@STRATA_SOAK=1 scripts/test --release $(if $(PKG),--package $(PKG),--workspace)
	@$(if $(PKG),:,scripts/fuzz)

bench: setup ## what the harness itself costs, and polled NVMe against the limits of two cores
	cargo bench --locked --package strata-benches
	cargo run --release --locked --package strata-benches --bin ring

peers: setup ## set fio, iperf3 and sockperf against strata; options by ARGS='--pairs 24 …'
	@scripts/against-peers $(ARGS)

spdk-plugin: setup ## build the plugin for this node's SPDK (by SPDK_DIR, or PKG_CONFIG_PATH), beside the command
	cargo build --release --locked --manifest-path crates/layers/spdk-rs/Cargo.toml --target-dir $${CARGO_TARGET_DIR:-target}

setup: ## install what the build lacks; STRATA_NO_INSTALL=1 only tells
	@scripts/setup $(NEEDS)
