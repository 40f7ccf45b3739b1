"""A support bundle: what a stranger needs to find a fault, and nothing of patients, people or keys.

Every part is made of named facts, never copied from a file of state. Then whatever names a wearable, a stream or a
person by the inventory is taken out of every part once more.
"""

import datetime as dt
import gzip
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.ble.inventory import Device, Inventory
from gateway.config import GatewayConfig, load
from gateway.control.client import Client
from gateway.control.doctor.examine import examine
from gateway.errors import GatewayError
from gateway.observe import advisories
from gateway.observe.log import discreet
from gateway.outbox.survey import survey

_UNIT: Final = "iomt-gateway"
_LINES: Final = 5_000
_FIELDS: Final = (
    "ROOM",
    "CAUSE",
    "DEVICE",
    "TIMES",
    "KEPT_BACK",
    "SOURCE",
    "MISSING",
    "SECONDS",
    "HOLES",
    "COUNT",
    "ERROR",
)
_TOOL_S: Final = 30.0
_SHORTEST_NAME: Final = 3
"""Shorter names are in half of all words."""
_REMOVED: Final = "[removed]"


async def collect(path: Path, now: dt.datetime) -> dict[str, str]:
    """Text by name, of the gateway with the configuration at `path`; what cannot be had says why."""
    parts = {
        "about.json": _json({"made": now.isoformat(), "version": __version__, **_machine()}),
        "packages.json": _json(advisories.installed()),
        "doctor.json": _json([asdict(each) for each in await examine(path, None, now)]),
        "journal.jsonl": _journal(),
    }
    try:
        config = load(path, GatewayConfig)
        devices = Inventory.load(config.gateway.state_dir / "devices.json").devices
    except GatewayError as error:  # without the inventory nobody knows which words tell of people
        return {name: discreet(text) for name, text in (parts | {"not-there.txt": f"{error}\n"}).items()}
    client = Client(config)
    parts["configuration.json"] = config.model_dump_json(indent=1)
    parts["wearables.json"] = _json([_about(each) for each in devices])
    parts["outbox.json"] = _tried(lambda: _json(asdict(survey(config.gateway.state_dir / "outbox"))))
    for name, route in (("status.json", "/v1/status"), ("metrics.txt", "/metrics")):
        try:
            parts[name] = (await client.call("GET", route)).decode()
        except GatewayError as error:
            parts[name] = f"not there: {error}\n"
    words = list(_words(devices))
    return {name: _clean(text, words) for name, text in parts.items()}


def packed(parts: dict[str, str], now: dt.datetime) -> bytes:
    """A gzipped tar archive of the parts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in sorted(parts.items()):
            data = text.encode()
            entry = tarfile.TarInfo(f"support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(now.timestamp()), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


def _clean(text: str, words: Iterable[str]) -> str:
    text = discreet(text)
    for word in words:
        text = text.replace(word, _REMOVED)
    return text


def _words(devices: Iterable[Device]) -> Iterator[str]:
    """Whatever in the inventory tells one wearable, stream or person from another."""
    for each in devices:
        streams = [stream.hex() for stream in each.streams]
        named = [each.name] if len(each.name) >= _SHORTEST_NAME else []
        serial = [each.identity.serial] if len(each.identity.serial) >= _SHORTEST_NAME else []
        yield from (
            each.address,
            each.address.replace(":", "_"),
            each.address.replace(":", ""),
            *streams,
            *named,
            *serial,
        )


def _about(device: Device) -> dict[str, object]:
    """What kind of wearable, and how it is with it."""
    identity = device.identity
    return {
        "wearable": device.address,  # shortened with all the rest
        "profile": device.profile,
        "make": identity.make,
        "model": identity.model,
        "firmware": identity.firmware,
        "bond": device.bond.name.lower(),
        "assigned": device.assigned,
        "slots": len(device.users),
        "quarantine": device.quarantine,
        "rssi_dbm": device.rssi_dbm,
        "battery_pct": device.battery_pct,
    }


def _machine() -> dict[str, object]:
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": f"{platform.release()} {platform.version()}",
        "system": release.get("PRETTY_NAME", ""),
    }


def _journal() -> str:
    """The unit's newest entries; they were discreet when they were written."""
    fields = ",".join(("MESSAGE", "PRIORITY", *(f"IOMT_{each}" for each in _FIELDS)))
    command = ("journalctl", "-u", _UNIT, "-n", str(_LINES), "-o", "json", f"--output-fields={fields}", "--no-pager")
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TOOL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not there: {error}\n"
    return said.stdout or f"not there: {said.stderr.strip()}\n"


def _tried(make: Callable[[], str]) -> str:
    try:
        return make()
    except (GatewayError, OSError) as error:
        return f"not there: {error}\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"
