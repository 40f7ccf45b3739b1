"""Makes a new box of a backup. What is there already is never overwritten, and nothing starts before all is there."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.config import GatewayConfig, load
from gateway.control.backup import BLUETOOTH, CONFIG, PUBLIC, SECRETS, Backup, crl_path
from gateway.control.continuation import Continuation
from gateway.durable import give_to_owner, make_private_directory, write_durably, write_readable
from gateway.errors import ConfigError
from gateway.model import Lane, Link


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made."""

    gateway: str
    keys: bool
    """The box's private keys came with the backup; without them it has to be enrolled."""
    wearables: int
    bonded: bool
    """Their bonds are here; without them each has to be paired again, and keeps its stream."""


def restore(backup: Backup, path: Path, *, after: Mapping[Lane, Link], bluetooth: Path = BLUETOOTH) -> Restored:
    """Make the box whose configuration is, or will be, at `path`; its history goes on after the bundles in `after`.

    Raises `ConfigError`, before anything is written, if something else is in the way.
    """
    text = path.read_bytes() if path.exists() else backup.files[CONFIG]
    config = load(path, GatewayConfig) if path.exists() else _planned(text, path)
    _check(backup, config, path)
    files = dict(_places(backup, config))
    for target, content in files.items():
        if target.exists() and target.read_bytes() != content:
            raise ConfigError(f"{target}: is there, and another one; move it away, then repeat")
    bonds = {
        bluetooth / name.removeprefix("bluetooth/"): content
        for name, content in backup.files.items()
        if name.startswith("bluetooth/") and _is_here(name, bluetooth)
    }
    radio = "state/bonds.json" in backup.files
    bonded = radio or any(each.name == "info" for each in bonds)
    if not bonded and (devices := config.gateway.state_dir / "devices.json") in files:
        files[devices] = _without_bonds(files[devices])
    try:
        for target, content in (files | bonds).items():
            make_private_directory(target.parent)
            write_durably(target, content)
            give_to_owner(target)
        Continuation.make(backup.time_ms, after).write(config.gateway.state_dir)
        if not path.exists():
            write_readable(path, text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}; repeat") from error
    wearables = len(json.loads(backup.files.get("state/devices.json", b'{"devices": []}'))["devices"])
    return Restored(backup.gateway, "identity/tls_key" in backup.files, wearables, bonded)


def _planned(text: bytes, path: Path) -> GatewayConfig:
    try:
        return GatewayConfig.model_validate(tomllib.loads(text.decode()), context=path.parent)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"the backup's configuration is of another version: {error}") from error


def _check(backup: Backup, config: GatewayConfig, path: Path) -> None:
    if config.gateway.id != backup.gateway:
        raise ConfigError(f"{path}: is of {config.gateway.id}, and the backup of {backup.gateway}")
    for name in ("outbox", "audit.jsonl"):
        if (place := config.gateway.state_dir / name).exists():
            raise ConfigError(f"{place}: a gateway has run here; restore on a new box, or wipe this one")


def _places(backup: Backup, config: GatewayConfig) -> Iterator[tuple[Path, bytes]]:
    """Yield where each file of identity and state belongs by the configuration."""
    identity, state_dir = config.identity, config.gateway.state_dir
    places = {f"identity/{role}": getattr(identity, role) for role in (*SECRETS, *PUBLIC)}
    places["identity/crl"] = crl_path(identity)
    for name, content in backup.files.items():
        if name.startswith("state/"):
            yield state_dir / name.removeprefix("state/"), content
        elif name in places:
            yield places[name], content


def _is_here(name: str, bluetooth: Path) -> bool:
    """Whether BlueZ knows the adapter of this bond: a wearable knows us by the adapter's address, and by no other."""
    return (bluetooth / Path(name).parts[1]).exists()


def _without_bonds(devices: bytes) -> bytes:
    """An inventory as it is after its wearables were unpaired: they wait for a person, and nobody is alarmed."""
    document = json.loads(devices)
    for each in document["devices"]:
        each["bond"] = "none"
    return json.dumps(document, indent=2).encode()
