# Everything below needs Python 3.11 or newer, make, and the package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DURATION ?= 30
JSON ?= 0
RUNS ?= 10000000
HOSTILE ?= 1000000
SOAK_KILLS ?= 1000
SOAK_SECONDS ?= 1800
SOAK_SEEDS ?= 1 2 3

.PHONY: venv demo test lint types layers tests test-fleet test-system test-hostile test-tpm test-bluez test-ship test-arm64 \
	fuzz bench soak deb sbom audit lock man clean

venv: $(VENV)/.ready  ## the virtual environment with every extra, from hash-locked requirements

$(VENV)/.ready: requirements/all.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: venv  ## the whole path on this machine; DURATION=seconds (0: until Ctrl-C), JSON=1
	@$(BIN)/python -m gateway.lab.demo --duration $(DURATION) $(if $(filter 1,$(JSON)),--json)

test: lint types layers tests  ## what must pass before anything lands

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

layers: venv
	$(BIN)/lint-imports

tests: venv
	$(BIN)/pytest --ignore=tests/fleet --ignore=tests/hostile --ignore=tests/tpm --ignore=tests/prometheus --ignore=tests/nspawn --ignore=tests/deb

test-fleet: venv  ## several workers, clusters, nodes killed, strangers; needs mosquitto, postgresql, nats-server and rabbitmq-server
	$(BIN)/pytest tests/fleet

test-system: venv  ## systemd boots and runs the shipped units; a real Prometheus fires alerts; root, mosquitto, prometheus
	$(BIN)/pytest tests/nspawn tests/prometheus

test-ship: venv  ## packages: built, installed, upgraded, removed and purged under systemd in a container; root
	$(BIN)/pytest tests/deb

test-arm64: venv  ## the arm64 package under emulation: its tests, the demo, docs/raspberry-pi.md; root; no part of CI: minutes
	$(BIN)/python -m tests.arm64.run

test-hostile: venv  ## HOSTILE=messages that are forged, truncated, replayed, foreign or too large, mixed into honest load
	HOSTILE=$(HOSTILE) $(BIN)/pytest -o faulthandler_timeout=0 tests/hostile

test-tpm: venv  ## keys in a TPM 2.0; needs mosquitto, swtpm, tpm2-abrmd, tpm2-openssl, libtss2-dev and a C compiler
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tpm.txt
	$(BIN)/pytest tests/tpm

test-bluez: venv  ## pairing, links and recovery on Debian's kernel and bluetoothd, in a QEMU guest
	$(BIN)/python -m tests.bluez.run

fuzz: venv  ## every decoder under a coverage-guided fuzzer; RUNS=inputs (Python 3.11 to 3.13)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	$(BIN)/python tests/fuzz/fuzz_health.py -runs=$(RUNS) -max_len=40

bench: venv  ## what docs/performance.md quotes, into bench-results; `python -m bench NAME --json` for one, `all` for every one
	$(BIN)/python -m bench page --results bench-results
	$(BIN)/python -m bench show --results bench-results

soak: venv  ## hours: SOAK_KILLS times SIGKILL of the gateway, then every fault for SOAK_SECONDS with each of SOAK_SEEDS
	SOAK_KILLS=$(SOAK_KILLS) $(BIN)/pytest tests/system/test_kills.py
	set -e; for seed in $(SOAK_SEEDS); do $(BIN)/iomt-gateway prove --seconds $(SOAK_SECONDS) --seed $$seed; done

deb: venv  ## Debian packages of gateway and receiver, for amd64 and arm64, in dist/; bill of materials inside
	$(BIN)/python -m ship.deb

sbom: deb  ## the bill of materials (CycloneDX) of each package is beside it in dist/, as in it

audit: venv  ## OSV=snapshot of OSV's database (PyPI's all.zip): known vulnerabilities of what is shipped
	@$(BIN)/python -m ship.audit $(OSV)

lock: venv  ## renew the hash-locked requirements
	$(BIN)/python requirements/lock.py

man: venv  ## manual pages and shell completions, in build/share as under /usr/share
	@mkdir -p build/share/man/man1 build/share/bash-completion/completions
	@mkdir -p build/share/zsh/vendor-completions build/share/fish/vendor_completions.d
	set -e; for name in gateway receiver; do \
		$(BIN)/argparse-manpage --module gateway.cli.$$name --function parser --prog iomt-$$name \
			--project-name iomt-gateway --version "$$($(BIN)/iomt-$$name --version | cut -d' ' -f2)" \
			--manual-title iomt-gateway --description "telemetry of medical wearables" \
			--include docs/man/$$name.txt --output build/share/man/man1/iomt-$$name.1; \
		$(BIN)/iomt-$$name completion bash >build/share/bash-completion/completions/iomt-$$name; \
		$(BIN)/iomt-$$name completion zsh >build/share/zsh/vendor-completions/_iomt-$$name; \
		$(BIN)/iomt-$$name completion fish >build/share/fish/vendor_completions.d/iomt-$$name.fish; \
	done

clean:
	rm -rf $(VENV) .demo .prove build dist *.egg-info
