"""A gateway that is killed at any moment comes back on its bonds, and nothing a wearable stored is missing."""

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

from bumble.device import Connection, Device

from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS

from .child_gateway import read
from .conftest import Ward, until

GATEWAY = Path(__file__).with_name("child_gateway.py")
KILLS = 4


class Child:
    """The gateway's process."""

    def __init__(self, ward: Ward) -> None:
        self._ward = ward

    async def __aenter__(self) -> None:
        arguments = (sys.executable, str(GATEWAY), str(self._ward.state), str(self._ward.socket))
        self._process = await asyncio.create_subprocess_exec(*arguments)

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()


async def test_killed_again_and_again_it_comes_back_bonded_and_misses_nothing(ward: Ward) -> None:
    await ward.assign("cgm", "gls")
    pairings: Counter[str] = Counter()
    for wearable in (ward.cgm, ward.meter):
        wearable.device.on(
            Device.EVENT_CONNECTION,
            lambda c, name=wearable.address: c.on(Connection.EVENT_PAIRING, lambda _: pairings.update([name])),
        )
    rng = random.Random(1)
    journal = ward.state / "journal.jsonl"

    def linked() -> int:
        return sum(line.get("event") == "link-up" for line in read(journal))

    offset = 31
    for _ in range(KILLS):
        before = linked()
        async with Child(ward):
            await until(lambda before=before: linked() >= before + 2)
            for _reading in range(3):
                await ward.cgm.measure(offset)
                await ward.meter.measure()
                offset += 1
                await asyncio.sleep(rng.uniform(0.0, 0.02))
        await ward.cgm.measure(offset)
        await ward.meter.measure()
        offset += 1

    def durable(device: str) -> set[tuple[str, int]]:
        return {(s, n) for line in read(journal) for d, s, n in line["records"] if d == device}

    def stored(device: str) -> set[tuple[str, int]]:
        return {(line["session"], line["sequence"]) for line in ward.emitted(device)}

    async with Child(ward):
        for device in (CGM_ADDRESS, GLS_ADDRESS):
            await until(lambda device=device: durable(device) == stored(device))
    assert pairings == {}
    assert [line["error"] for line in read(journal) if "error" in line] == []
