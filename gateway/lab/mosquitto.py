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


def command(pki: Path, state: Path, port: int) -> list[str]:
    """How to start mosquitto on a loopback port, in the foreground; its files go to the existing directory `state`.

    Raises `ConfigError` if it is not installed.
    """
    mosquitto = program()
    if mosquitto is None:
        raise ConfigError("mosquitto is not installed; on Debian: apt install mosquitto")
    shipped = resources.files("config").joinpath("mosquitto")
    acl = state / "acl"
    acl.write_text(shipped.joinpath("acl").read_text(encoding="utf-8"), encoding="utf-8")
    acl.chmod(0o600)
    values = {"LISTEN": f"{port} 127.0.0.1", "USER": getpass.getuser(), "PKI": pki, "ACL": acl, "STATE": state}
    configuration = state / "mosquitto.conf"
    text = shipped.joinpath("mosquitto.conf").read_text(encoding="utf-8")
    configuration.write_text(Template(text).substitute(values), encoding="utf-8")
    return [mosquitto, "-c", str(configuration)]
