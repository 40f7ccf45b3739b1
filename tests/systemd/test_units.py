"""The shipped units: how exposed systemd finds each, and every directive that makes it so."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"

BOTH = {
    "Type": "notify",
    "Restart": "always",
    "RestartSec": "100ms",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "LimitCORE": "0",
    "OOMPolicy": "kill",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "NoNewPrivileges": "yes",
    "PrivateUsers": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateMounts": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "PrivateIPC": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "ProtectHostname": "yes",
    "ProtectClock": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service ~@privileged @resources @mount @keyring @memlock @setuid @chown",
    "SystemCallErrorNumber": "EPERM",
    "IPAddressDeny": "any",
}
OWN = {
    "gateway": {
        "User": "iomt-gateway",
        "NoExecPaths": "/tmp /var/tmp /var/lib/iomt-gateway /run/iomt-gateway",  # noqa: S108 - a directive
        "InaccessiblePaths": "-/dev/shm",
        "IPAddressAllow": "localhost 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fe80::/10",
        "LoadCredentialEncrypted": "iomt-gateway.tls.key iomt-gateway.sign.key",
        "WatchdogSec": "60",
        "MemoryMax": "320M",
        "TasksMax": "64",
    },
    "receiver": {
        "User": "iomt-receiver",
        "ProcSubset": "pid",
        "NoExecPaths": "/tmp /var/tmp /var/lib/iomt-receiver /run/iomt-receiver -/var/lib/iomt-site/receiver",  # noqa: S108 - a directive
        "InaccessiblePaths": "-/var/lib/iomt-site/offline -/var/lib/iomt-site/ca -/dev/shm",
        "IPAddressAllow": "localhost",
        "WatchdogSec": "120",
        "MemoryMax": "1536M",
        "TasksMax": "128",
    },
}


def directives(unit: Path) -> dict[str, str]:
    """Of the section [Service]; what is said several times adds up."""
    said = defaultdict(list)
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text().partition("[Service]")[2], re.MULTILINE):
        said[key].append(value)
    return {key: " ".join(values) for key, values in said.items()}


def exposure(unit: str) -> float:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing; on Debian: apt install systemd")
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", told)[-1])


@pytest.mark.parametrize(
    ("name", "most"),
    [("gateway", 1.0), ("receiver", 0.9), ("api", 1.0), ("broker", 1.2), ("ca", 2.4), ("adapter-reset", 1.9)],
)
def test_systemd_finds_it_hardly_exposed(name: str, most: float) -> None:
    assert exposure(str(UNITS / f"iomt-{name}.service")) <= most


@pytest.mark.parametrize(("drop_in", "most"), [("tpm", 1.1), ("groups", 1.2)])
def test_a_drop_in_for_the_gateway_exposes_it_hardly_more(drop_in: str, most: float, tmp_path: Path) -> None:
    unit = shutil.copy(UNITS / "iomt-gateway.service", tmp_path)
    (tmp_path / "iomt-gateway.service.d").mkdir()
    shutil.copy(UNITS / f"drop-ins/iomt-gateway/{drop_in}.conf", tmp_path / "iomt-gateway.service.d")
    assert exposure(str(unit)) <= most


@pytest.mark.parametrize("name", ["gateway", "receiver"])
def test_it_has_each_directive(name: str) -> None:
    assert BOTH | OWN[name] == {
        key: value for key, value in directives(UNITS / f"iomt-{name}.service").items() if key in BOTH | OWN[name]
    }


@pytest.mark.parametrize("name", ["gateway", "receiver", "ca"])
def test_it_is_never_given_up(name: str) -> None:
    text = (UNITS / f"iomt-{name}.service").read_text()
    assert "StartLimitIntervalSec=0" in text
    assert directives(UNITS / f"iomt-{name}.service")["Restart"] == "always"


def test_pauses_between_attempts_that_fail_grow_to_a_minute_and_a_stop_ends_them(tmp_path: Path) -> None:
    (tmp_path / "sleep").write_text('#!/bin/sh\necho "$1"\n')
    (tmp_path / "sleep").chmod(0o755)

    def backoff(**environment: str) -> str:
        known = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RUNTIME_DIRECTORY": str(tmp_path)}
        done = subprocess.run(UNITS / "iomt-backoff", env=known | environment, capture_output=True, check=True)
        return done.stdout.decode().strip()

    pauses = []
    for _ in range(9):
        pauses.append(backoff())
        backoff(SERVICE_RESULT="exit-code", EXIT_CODE="exited")
    assert pauses == ["", "1", "2", "4", "8", "16", "32", "60", "60"]
    for by_hand in ({"SERVICE_RESULT": "success", "EXIT_CODE": "exited"}, {"SERVICE_RESULT": "signal"}):
        backoff(**by_hand)
        assert backoff() == ""
        backoff(SERVICE_RESULT="watchdog", EXIT_CODE="killed")
        assert backoff() == "1"
