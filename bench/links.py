"""32 bonded wearables at once, as after a power cut: how long until all are linked, and what a notification costs.

The wearables are in a process of their own, behind a virtual controller; the gateway's Bluetooth side is in this one,
down to its sink. Connections are made one at a time. Then every wearable sends 50 notifications a second.
"""

import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench._measure import spread
from bench._ward import addresses
from gateway.ble.bluetooth import Bluetooth
from gateway.ble.healing import LinkState
from gateway.ble.inventory import Device, Inventory
from gateway.ble.pairing import Security
from gateway.ble.setup import Setup
from gateway.clock.book import ClockBook
from gateway.clock.system import Clock
from gateway.config import BleSection
from gateway.lab.bonds import bond_beforehand
from gateway.lab.radio import VirtualRadio
from gateway.model import Cursor, Reading

_COUNT = 32
_ROUNDS = 3
_SENDING_S = 5.0
_PATIENCE_S = 120.0


def run() -> dict[str, Any]:
    """Measure; needs the `lab` extra."""
    rounds = [asyncio.run(_round()) for _ in range(_ROUNDS)]
    units = {
        f"until {_COUNT} are linked": "s",
        "longest wait between two links": "s",
        "carried": "notifications/s",
        "processor per notification": "us",
    }
    results = {name: spread([each[name] for each in rounds], unit) for name, unit in units.items()}
    return {"results": results, "ratios": {}}


async def _round() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        hci, bonds = root / "air" / "hci.sock", root / "bonds.json"
        bond_beforehand(bonds, addresses(_COUNT))
        arguments = ("-m", "bench._ward", str(hci), str(bonds), str(root / "ledger"), str(_COUNT))
        ward = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
        try:
            assert ward.stdout
            assert await ward.stdout.readline() == b"ready\n"
            assert ward.stdin
            return await _measure(root, VirtualRadio(hci, bonds), ward.stdin)
        finally:
            ward.kill()
            await ward.wait()


async def _measure(root: Path, radio: VirtualRadio, start: asyncio.StreamWriter) -> dict[str, float]:
    inventory = Inventory.load(root / "devices.json")
    for place, address in enumerate(addresses(_COUNT)):
        inventory.put(Device(address, "plx", place.to_bytes(16, "big"), bond=Security.AUTHENTICATED))
    taken = 0
    errors: list[object] = []
    linked_s: list[float] = []

    def sink(_stream: bytes, readings: Sequence[Reading], _cursor: Cursor | None) -> None:
        nonlocal taken
        taken += len(readings)

    def on_event(code: str, *_details: object) -> None:
        if code == LinkState.UP.value:
            linked_s.append(time.perf_counter())

    bluetooth = Bluetooth(
        Setup(
            radio=radio,
            inventory=inventory,
            config=BleSection(adapter="virtual:air"),
            cursors={},
            sink=sink,
            on_event=on_event,
            on_error=errors.append,
            clock=Clock.start("system", not_before_ms=0),
            book=ClockBook.load(root / "clocks.json"),
        )
    )
    started_s = time.perf_counter()
    task = asyncio.create_task(bluetooth.run())
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while bluetooth.links.due:  # noqa: ASYNC110 - looks at many
                await asyncio.sleep(0.01)
        start.write(b"\n")
        await asyncio.sleep(1.0)
        before, before_s, before_cpu_s = taken, time.perf_counter(), time.process_time()
        await asyncio.sleep(_SENDING_S)
        notifications = (taken - before) / 2  # saturation and pulse each
        cpu_s, sending_s = time.process_time() - before_cpu_s, time.perf_counter() - before_s
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert not errors, errors
    waits = [later - earlier for earlier, later in zip([started_s, *linked_s], linked_s, strict=False)]
    return {
        f"until {_COUNT} are linked": linked_s[-1] - started_s,
        "longest wait between two links": max(waits),
        "carried": notifications / sending_s,
        "processor per notification": cpu_s * 1e6 / notifications,
    }
