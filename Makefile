# What a new machine needs is installed by the targets themselves. Everything that tests make lives
# in namespaces of its own (tests/apart). Messages go to stderr, so that `make demo ARGS=--json`
# can be read by a program.
.DEFAULT_GOAL := check
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
RUN_PACKAGES := python3 python3-venv iptables ipset iproute2 libbpf1 redis-server ca-certificates
TEST_PACKAGES := docker.io docker-compose busybox-static chromium clang libbpf-dev libc6-dev \
	gcc podman netavark aardvark-dns debootstrap systemd tcpdump ethtool procps nftables iputils-ping wireguard-go
BENCH_PACKAGES := iperf3 argus-client argus-server softflowd tshark

say = printf 'netwatch: %s\n' "$(1)" >&2
# No service is started for being installed (policy-rc.d): tests start their own, apart.
packages = dpkg -s $(1) >/dev/null 2>&1 || { \
	$(call say,installing Debian packages: $(1)); \
	deny=/usr/sbin/policy-rc.d; made=; \
	test -e $$deny || { printf '\#!/bin/sh\nexit 101\n' >$$deny; chmod 755 $$deny; made=yes; }; \
	{ apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -q -y --no-install-recommends $(1); } >&2; code=$$?; \
	test -z "$$made" || rm -f $$deny; test $$code = 0; }
extras = test -e .venv/with-$(1) -a .venv/with-$(1) -nt setup.cfg -a .venv/with-$(1) -nt deploy/constraints.txt || { \
	$(call say,installing Python packages into .venv ($(1))); \
	{ test -x $(BIN)/python || $(PYTHON) -m venv .venv; } && \
	$(BIN)/python -m pip install -q --disable-pip-version-check -c deploy/constraints.txt -e '.$(2)' >&2 && \
	touch .venv/with-$(1); }

.PHONY: demo test check bench proof bpf fmt root run-ready test-ready unit slow docker browser mutations

root:
	@test "$$(id -u)" = 0 || { $(call say,this needs root: it makes network namespaces and firewall rules in them); exit 1; }

run-ready: root
	@$(call packages,$(RUN_PACKAGES))
	@$(call extras,run,)

test-ready: root
	@$(call packages,$(RUN_PACKAGES) $(TEST_PACKAGES))
	@$(call extras,dev,[dev])
	@$(call extras,python-iptables,[python-iptables])
	@tests/docker/prepare

demo: run-ready
	@$(BIN)/netwatch demo $(ARGS)

check:
	@$(call extras,dev,[dev])
	@$(BIN)/ruff check netwatch tests
	@$(BIN)/ruff format --check -q netwatch tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-timeout 2>/dev/null || $(BIN)/lint-imports

fmt:
	@$(BIN)/ruff check --fix -q netwatch tests; $(BIN)/ruff format -q netwatch tests

# In this order, not by the number of tests: a file of few long ones that comes last is waited for.
unit:
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder \
		tests/property tests/golden tests/stores tests/unit

# Each part is apart from the machine and from the others, so three may run at once: they mostly wait
# (for deadlines, for what must not come, for the agent's next look). What is long comes first, and
# what is short last, so that all end together.
slow:
	@$(call say,tests that need root: network namespaces + docker + browser (some minutes))
	@$(MAKE) -s -j3 --output-sync=target docker $(foreach part,1 2 3 4 5 6,netns-$(part)) browser mutations

# FUZZ_S: for how many seconds; tests/bench/fuzz.py goes on without end.
mutations:
	@FUZZ_S=$${FUZZ_S:-60} $(BIN)/pytest tests/property/test_robustness.py

# Tests of promises in time fail now and then where others want the same core: what failed is shown,
# and tried once more by itself.
apart = tests/apart $(BIN)/pytest -o cache_dir=.pytest_cache/$@ $(1) $(2) || { \
	$(call say,once more what failed in $@); \
	tests/apart $(BIN)/pytest -o cache_dir=.pytest_cache/$@ --last-failed $(1); }

netns-%:
	@$(call apart,tests/netns,--part $*/6)

docker browser:
	@$(call apart,tests/$@)

test: test-ready
	@$(call say,style and types and layers)
	@$(MAKE) -s check
	@$(call say,unit and property and golden tests)
	@$(MAKE) -s unit
	@$(MAKE) -s slow
	@$(call say,everything passed)

bpf:
	@$(call packages,clang libbpf-dev libc6-dev)
	clang -O2 -g -target bpf -mcpu=v3 -Wall -Werror -fdebug-compilation-dir=. \
		-I/usr/include/$$(uname -m)-linux-gnu \
		-c netwatch/capture/flow.bpf.c -o netwatch/capture/flow.bpf.o

proof: test-ready
	@$(call say,the kernel against the simulator at full size (some minutes))
	@tests/prove

bench: test-ready
	@$(call packages,$(BENCH_PACKAGES))
	@$(call extras,bench,[dev,bench])
	@$(call say,reading a capture of a million packets and ClientHellos beside other tools)
	@$(BIN)/python tests/bench/read.py || true
	@$(BIN)/python tests/bench/tls.py || true
	@$(call say,what capturing costs the traffic and the machine)
	@tests/apart $(BIN)/python tests/bench/capture.py || true
	@tests/apart $(BIN)/python tests/bench/apply.py
	@tests/apart $(BIN)/python tests/bench/packets.py
	@tests/apart $(BIN)/python tests/bench/start.py
	@$(call say,flow history and replay: ten million flows (some minutes))
	@$(BIN)/python -m tests.bench.history
