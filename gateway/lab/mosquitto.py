"""Mosquitto with the configuration as shipped, for system tests and benchmarks."""

import getpass
import shutil
from importlib import resources
from pathlib import Path
from string import Template

from gateway.errors import ConfigError


def program() -> str | None:
    """Where mosquitto is installed, if it is."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def command(pki: Path, state: Path, port: int, *, maximum_packet_bytes: int = 262_144) -> list[str]:
    """How to start mosquitto on a loopback port, in the foreground; its files go to the existing directory `state`.

    Raises `ConfigError` if it is not installed.
    """
    mosquitto = program()
    if mosquitto is None:
        raise ConfigError("mosquitto is not installed; on Debian: apt install mosquitto")
    shipped = resources.files("config").joinpath("mosquitto")
    acl = state / "acl"
    write_acl(acl)
    values = {"LISTEN": f"{port} 127.0.0.1", "USER": getpass.getuser(), "PKI": pki, "ACL": acl, "STATE": state}
    configuration = state / "mosquitto.conf"
    text = shipped.joinpath("mosquitto.conf").read_text(encoding="utf-8")
    text = text.replace("max_packet_size 262144", f"max_packet_size {maximum_packet_bytes}")
    configuration.write_text(Template(text).substitute(values), encoding="utf-8")
    return [mosquitto, "-c", str(configuration)]


def write_acl(acl: Path, *, uplink: bool = True) -> None:
    """Write who may use which topic, as shipped or without the topics on which gateways send; SIGHUP reads it again."""
    lines = resources.files("config").joinpath("mosquitto/acl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if uplink or not line.startswith("pattern write v1/gw/%u/up/")]
    acl.write_text("".join(kept), encoding="utf-8")
    acl.chmod(0o600)
