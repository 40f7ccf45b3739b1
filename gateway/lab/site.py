"""A whole site on one machine: throw-away keys, configuration files, and the commands that start each process."""

import fcntl
import json
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gateway.errors import ConfigError
from gateway.lab import small_disk
from gateway.lab.bonds import bond_beforehand
from gateway.lab.pki import make_dev_pki

GATEWAY = "gw-demo"
_GATEWAY_STATE = "gateway-state"


def free_port() -> int:
    """A loopback TCP port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def own_folder(root: Path) -> Iterator[None]:
    """Make way for a site in `root`, which is gone then. Raises `ConfigError` if another one is at work there."""
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another run is at work in {root.absolute()}; wait for its end") from error
        if (left := root / _GATEWAY_STATE).is_mount():
            small_disk.unmount(left)
        shutil.rmtree(root, ignore_errors=True)
        yield


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything of one site lies, below `root`."""

    root: Path
    broker_port: int
    uplink_port: int
    """Where the gateway looks for the broker: the fault proxy, or the broker itself."""
    gateway_metrics: str = "off"
    """Where the gateway's metrics are read: HOST:PORT, or nowhere but on its control socket."""
    receiver_metrics: str = "off"
    """Where the receiver's metrics are read: HOST:PORT, or nowhere."""

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """What each process tells."""
        return self.root / "logs"

    @property
    def radio(self) -> Path:
        """The Unix socket that is the air's end of the gateway's Bluetooth controller."""
        return self.root / "air" / "hci.sock"

    @property
    def ledger(self) -> Path:
        """What the virtual wearables say they sent."""
        return self.root / "ledger.jsonl"

    @property
    def clock(self) -> Path:
        """By how much the gateway's clock is wrong, where it can be stepped."""
        return self.root / "clock"

    @property
    def gateway_state(self) -> Path:
        """The gateway's state directory."""
        return self.root / _GATEWAY_STATE

    @property
    def bonds(self) -> Path:
        """The gateway's bonds with the virtual wearables."""
        return self.gateway_state / "bonds.json"

    @property
    def outbox(self) -> Path:
        """The gateway's outbox."""
        return self.gateway_state / "outbox"

    @property
    def gateway_config(self) -> Path:
        """The gateway's configuration file."""
        return self.root / "gateway.toml"

    @property
    def receiver_config(self) -> Path:
        """The receiver's configuration file."""
        return self.root / "receiver.toml"

    @property
    def receiver_state(self) -> Path:
        """The receiver's state directory."""
        return self.root / "receiver-state"


def build(site: Site, *, devices: Mapping[str, str], uplink_extra: str = "", gateway_extra: str = "") -> dict[str, str]:
    """Lay the site out and assign each of `devices` (address: profile), paired beforehand, to a fresh stream.

    `uplink_extra` are more lines of the gateway's [uplink], `gateway_extra` more tables of its configuration.
    Returns stream id (hex) by address.
    """
    site.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for directory in (site.logs, site.radio.parent, site.gateway_state, site.receiver_state):
        directory.mkdir(mode=0o700, exist_ok=True)
    make_dev_pki(site.pki, [GATEWAY])
    site.gateway_config.write_text(_gateway_toml(site, uplink_extra) + gateway_extra)
    site.receiver_config.write_text(_receiver_toml(site))
    streams = {address: secrets.token_hex(16) for address in devices}
    inventory = {
        "schema": 3,
        "devices": [
            {"address": address, "profile": profile, "stream": streams[address], "bond": "authenticated"}
            for address, profile in devices.items()
        ],
    }
    (site.gateway_state / "devices.json").write_text(json.dumps(inventory, indent=2))
    bond_beforehand(site.bonds, devices)
    return streams


def write_configurations(pki: Path, gateway: str) -> tuple[Path, Path]:
    """The shipped `gateway.toml` and `receiver.toml`, made to fit a throw-away PKI; files that exist are kept.

    They lie in `pki` and keep state beside themselves; the gateway has no radio until somebody names one.
    """
    own = f"gateways/{gateway}/"
    names = {
        "ca": "ca.crt",
        "tls_cert": f"{own}tls.crt",
        "tls_key": f"{own}tls.key",
        "signing_cert": f"{own}sign.crt",
        "signing_key": f"{own}sign.key",
        "fleet_root": "fleet-root.pub",
        "key_list": "keys.cbor",
    }
    changes = {
        "gateway.toml": {
            'id = "gw-001"': f'id = "{gateway}"',
            '"/var/lib/iomt-gateway"': '"gateway-state"',
            "[identity]\n": "[identity]\n" + "".join(f'{key} = "{name}"\n' for key, name in names.items()),
            '# adapter = "hci0"': 'adapter = "none"',
        },
        "receiver.toml": {'"/var/lib/iomt-receiver"': '"receiver-state"'},
    }
    for name, replacements in changes.items():
        if (pki / name).exists():
            continue
        text = resources.files("config").joinpath(name).read_text(encoding="utf-8")
        for shipped, fitting in replacements.items():
            text = text.replace(shipped, fitting, 1)
        (pki / name).write_text(text, encoding="utf-8")
    return pki / "gateway.toml", pki / "receiver.toml"


def _gateway_toml(site: Site, uplink_extra: str) -> str:
    return f"""\
[gateway]
id = "{GATEWAY}"
state_dir = "gateway-state"

[identity]
ca = "pki/ca.crt"
tls_cert = "pki/gateways/{GATEWAY}/tls.crt"
tls_key = "pki/gateways/{GATEWAY}/tls.key"
signing_cert = "pki/gateways/{GATEWAY}/sign.crt"
signing_key = "pki/gateways/{GATEWAY}/sign.key"
fleet_root = "pki/fleet-root.pub"
key_list = "pki/keys.cbor"

[uplink]
endpoints = ["127.0.0.1:{site.uplink_port}"]
backoff_max_s = 1.0
{uplink_extra}
[ble]
adapter = "virtual:{site.radio}"
retry_max_s = 1.0

[clock]
believe = "system"

[metrics]
listen = "{site.gateway_metrics}"
"""


def _receiver_toml(site: Site) -> str:
    broker = f'endpoints = ["127.0.0.1:{site.broker_port}"]'
    return receiver_toml("pki", "receiver-state", broker=broker, metrics=site.receiver_metrics)


def receiver_toml(pki: Path | str, state_dir: Path | str, *, broker: str, metrics: str = "off") -> str:
    """A receiver's configuration with the keys of a throw-away PKI; `broker` are the lines of its [broker]."""
    return f"""\
[receiver]
state_dir = "{state_dir}"
registry = "{pki}/registry.json"
recipient_keys = ["{pki}/recipient.key"]
receipt_key = "{pki}/receipt.key"
key_list = "{pki}/keys.cbor"

[tls]
ca = "{pki}/ca.crt"
cert = "{pki}/receiver.crt"
key = "{pki}/receiver.key"

[broker]
{broker}
backoff_max_s = 1.0

[metrics]
listen = "{metrics}"
"""
