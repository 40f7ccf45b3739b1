"""What each Debian package is made of."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateway import __version__

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
"""Debian 12's, and Raspberry Pi OS' of the same name."""
ARCHITECTURES = {"amd64": "x86_64-manylinux_2_36", "arm64": "aarch64-manylinux_2_36"}
"""What the installer of wheels calls Debian 12 on each architecture."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package; units and the like are files in `systemd/`."""

    name: str
    lock: str
    """Which file of `requirements/` says what Python packages are in it."""
    description: str
    depends: tuple[str, ...]
    recommends: tuple[str, ...]
    suggests: tuple[str, ...]
    units: tuple[str, ...]
    """Those that are enabled; the first one is the service."""
    further_units: tuple[str, ...]
    helpers: tuple[str, ...]
    examples: tuple[str, ...]
    """Files of `config/`."""

    @property
    def home(self) -> Path:
        """Where its Python environment lies on the machine."""
        return Path("/usr/lib", self.name)


_DEPENDS = ("python3.11 (>= 3.11.2)", "libc6 (>= 2.36)", "init-system-helpers (>= 1.60)", "systemd (>= 252)")

PACKAGES = (
    Package(
        name="iomt-gateway",
        lock="base",
        description="telemetry gateway for medical wearables\n"
        " Collects from Bluetooth wearables, seals and signs every reading, keeps it through\n"
        " outages of days, and delivers it over mutual-TLS MQTT to an iomt-receiver.\n"
        " .\n"
        " Not a certified medical device. Not for alarms or treatment decisions.",
        depends=_DEPENDS,
        recommends=("bluez", "nftables"),
        suggests=("iomt-receiver", "prometheus"),
        units=("iomt-gateway.service", "iomt-adapter-reset.path"),
        further_units=("iomt-adapter-reset.service",),
        helpers=("iomt-adapter-reset", "iomt-backoff"),
        examples=("gateway.toml", "grafana/iomt-gateway.json"),
    ),
    Package(
        name="iomt-receiver",
        lock="receiver",
        description="receiver of medical telemetry, and its small CA\n"
        " Verifies, opens and stores what iomt-gateways send, in SQLite or PostgreSQL, and\n"
        " receipts what is committed. With the CA that enrols gateways and renews their\n"
        " certificates.\n"
        " .\n"
        " Not a certified medical device. Not for alarms or treatment decisions.",
        depends=_DEPENDS,
        recommends=("mosquitto",),
        suggests=("postgresql (>= 15)", "nats-server", "prometheus"),
        units=("iomt-receiver.service", "iomt-ca.service", "iomt-broker.service"),
        further_units=("iomt-api.service",),
        helpers=("iomt-backoff",),
        examples=(
            "receiver.toml",
            "prometheus/prometheus.yml",
            "prometheus/rules.yml",
            "grafana/iomt-receiver.json",
            "nats/node.conf",
        ),
    ),
)


def version(revision: str) -> str:
    """The version of both packages."""
    return f"{__version__}-{revision}"


def made_at() -> int:
    """The time, in seconds since 1970, that everything built from this commit bears."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
