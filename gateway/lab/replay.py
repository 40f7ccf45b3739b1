"""A capture (`gateway.ble.capture`) as a virtual wearable: it shows and says again what the real one did.

What was read is what it answers; what came between our request for records and its answer is its store; the rest is
told live, in order, to whoever listens.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bumble.gatt import Characteristic
from bumble.link import LocalLink

from gateway import health
from gateway.ble.capture import VERSION
from gateway.errors import ConfigError, DecodeError
from gateway.health import cgm, gls, racp
from gateway.lab.air import Air
from gateway.lab.peripheral import LedgerWriter, Peripheral
from gateway.lab.record_access import RecordStore

_RACP = "2A52"
_REPORT = racp.encode_request(racp.Opcode.REPORT).hex()
_UUID_DIGITS = 4
_AGAIN_S = 5.0
_EVERYBODYS = ("1800", "1801")
"""Generic Access and Generic Attribute, which bumble's host has of its own."""


@dataclass(slots=True)
class Captured:
    """What a file of a capture holds; UUIDs as it writes them."""

    services: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Properties by characteristic, by service."""
    values: dict[str, bytes] = field(default_factory=dict)
    """What was read, by characteristic."""
    stored: list[tuple[str, bytes]] = field(default_factory=list)
    """Characteristic and value of each record that was sent on request."""
    live: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "Captured":
        """Read `path`. Raises `ConfigError` that names the line, also for a capture without values."""
        captured = cls()
        reporting = False
        for number, line in enumerate(_lines(path), 1):
            try:
                reporting = captured._take(line, reporting=reporting)
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"{path}: line {number} is not of a capture with values: {error!r}") from error
        if not set(captured.services) - set(_EVERYBODYS):
            raise ConfigError(f"{path}: has no services to show again")
        return captured

    def _take(self, line: dict[str, Any], *, reporting: bool) -> bool:
        """Note one line; returns whether records are being sent on request after it."""
        match line:
            case {"capture": int(version)}:
                if (version, line["values"]) != (VERSION, True):
                    raise ValueError("another version, or no values")
            case {"service": str(uuid), "characteristics": list(characteristics)}:
                self.services[uuid] = {each["uuid"]: each["properties"] for each in characteristics}
            case {"read": str(uuid), "value": str(value)}:
                self.values[uuid] = bytes.fromhex(value)
            case {"write": "2A52", "value": str(value)}:
                return value == _REPORT
            case {"notify": "2A52"} | {"refused": "2A52"}:
                return False
            case {"notify": str(uuid)}:
                (self.stored if reporting else self.live).append((uuid, bytes.fromhex(line["value"])))
        return reporting


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


class Replay(Peripheral):
    """The wearable of a capture."""

    def __init__(self, link: LocalLink, captured: Captured, *, address: str, ledger: LedgerWriter) -> None:
        own = {
            uuid: shown
            for uuid, shown in captured.services.items()
            if len(uuid) == _UUID_DIGITS and uuid not in _EVERYBODYS
        }
        super().__init__(link, name="Replay", address=address, service=int(next(iter(own)), 16), ledger=ledger)
        self._captured = captured
        self._channels: dict[str, Characteristic[bytes]] = {}
        for service, shown in own.items():
            characteristics = [self._characteristic(uuid, properties) for uuid, properties in shown.items()]
            if _RACP in shown:
                characteristics.append(self._store(shown).control_point)
            self.add_service(int(service, 16), *(each for each in characteristics if each is not None))

    def _store(self, shown: Iterable[str]) -> RecordStore:
        """What was sent on request, by the first characteristic of the service that tells anything."""
        store = RecordStore(self, next(self._channels[uuid] for uuid in shown if uuid in self._channels))
        for uuid, value in dict.fromkeys(self._captured.stored):  # one that was made meanwhile came live, too
            store.add(_sequence(uuid, value), value)
        return store

    def _characteristic(self, uuid: str, properties: Collection[str]) -> Characteristic[bytes] | None:
        """None for what cannot be shown again: another control point, what was not read, vendors' own."""
        if len(uuid) != _UUID_DIGITS or uuid == _RACP:
            return None
        if "notify" in properties:
            self._channels[uuid] = self.notifying(int(uuid, 16))
        elif "indicate" in properties and "write" not in properties:
            self._channels[uuid] = self.indicating(int(uuid, 16))
        elif uuid in self._captured.values:
            return self.readable(int(uuid, 16), lambda: self._captured.values[uuid])
        return self._channels.get(uuid)

    async def tell(self) -> None:
        """Say again what was said live."""
        for uuid, value in self._captured.live:
            channel = self._channels[uuid]
            if channel.properties & Characteristic.Properties.NOTIFY:
                await self.notify(channel, value)
            else:
                for connection in self.subscribers(channel):
                    await self.indicate(connection, channel, value)


def _sequence(uuid: str, value: bytes) -> int:
    """A record's own number, for requests from a number on; 0 if it cannot be read."""
    try:
        match health.decode(int(uuid, 16), value):
            case gls.Glucose(sequence=sequence):
                return sequence
            case cgm.Records(records=(record, *_)):
                return record.offset_min
    except DecodeError:
        return 0
    return 0


async def serve(path: Path, *, hci: Path, address: str) -> None:
    """Put the wearable of the capture `path` on the air at `hci`; it says its live values whenever somebody listens."""
    captured = Captured.load(path)
    air = Air()
    ledger = LedgerWriter(Path(os.devnull))
    replay = Replay(air.link, captured, address=address, ledger=ledger)
    await air.serve(hci)
    await replay.start()
    sys.stdout.write(json.dumps({"event": "ready", "address": address}) + "\n")
    sys.stdout.flush()
    while True:
        await asyncio.sleep(_AGAIN_S)
        await replay.tell()


def main() -> None:
    """`python -m gateway.lab.replay FILE --hci SOCKET`."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.replay", description="A capture as a wearable.")
    parser.add_argument("capture", type=Path, metavar="FILE", help="of `iomt-gateway capture`")
    parser.add_argument("--hci", type=Path, required=True, metavar="SOCKET", help="where a gateway may attach")
    parser.add_argument("--address", default="F0:00:00:00:01:09", help="the wearable's (%(default)s)")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(arguments.capture, hci=arguments.hci, address=arguments.address))
    except ConfigError as error:
        sys.exit(f"replay: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
