"""What an outage costs: bytes on the disk for an hour of 1, 8 and 32 wearables, and so hours in a gigabyte.

An hour of simulated time goes through the real pipeline into a real outbox, sealed with X-Wing and synced once a tick.
A wearable is a pulse oximeter: oxygen saturation and pulse rate once a second. What the card is written is what the
kernel gave to it, without the file system's journal; with a tick of 250 ms, the default while online, that is once a
second here.
"""

import asyncio
import os
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock.keeper import Sample
from gateway.clock.system import Clock, SystemClocks
from gateway.config import OutboxSection
from gateway.envelope.keys import HPKE_XWING, Ed25519Signer, RecipientKey
from gateway.envelope.seal import ChainWriter
from gateway.health.metrics import PULSE_RATE, SPO2
from gateway.health.quality import Assessor
from gateway.model import Lane, Reading
from gateway.observe.card import written_bytes
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline

_NOW_MS = 1_790_000_000_000
_HOUR_S = 3600
_GIGABYTE = 1e9
_WEARABLES = (1, 8, 32)
_LONGEST_TICK_MS = 60_000


class _Hour:
    """Simulated time."""

    ms = 0

    def sample(self) -> Sample:
        return Sample(self.ms, _NOW_MS + self.ms, 10)


def run() -> dict[str, Any]:
    """Measure the default tick of an outage, and the longest."""
    defaults = OutboxSection()
    results: dict[str, Any] = {}
    for tick_ms in (defaults.tick_ms, defaults.offline_tick_ms, _LONGEST_TICK_MS):
        for wearables in _WEARABLES:
            with TemporaryDirectory(dir=".", prefix=".bench-") as directory:
                disk, card = asyncio.run(_hour(Path(directory), wearables, tick_ms))
            name = f"{wearables} wearables, a tick of {tick_ms / 1000:g} s"
            results[f"{name}: hours in a GB"] = _exact(_GIGABYTE / disk, "h")
            results[f"{name}: a reading on the disk"] = _exact(disk / (2 * _HOUR_S * wearables), "B")
            results[f"{name}: a reading to the card"] = _exact(card / (2 * _HOUR_S * wearables), "B")
            life = defaults.endurance_tbw * 1e12 / card / 24 / 365.25
            results[f"{name}: a card of {defaults.endurance_tbw:g} TBW"] = _exact(life, "years")
    return {"results": results, "ratios": {}}


def _exact(value: float, unit: str) -> dict[str, float | str]:
    """One hour is measured once: sizes do not vary."""
    return {"median": value, "min": value, "max": value, "unit": unit}


async def _hour(directory: Path, wearables: int, tick_ms: int) -> tuple[int, int]:
    """Bytes that an hour takes of the disk, and that were written for it."""
    hour = _Hour()
    clock = Clock.start(
        "system", not_before_ms=0, clocks=SystemClocks(boot=b"b" * 16, boot_ms=lambda: hour.ms, sample=hour.sample)
    )
    clock.look()
    with closing(Outbox.open(directory, gateway="bench", segment_bytes=4 << 20, capacity_bytes=1 << 30)) as outbox:
        pipeline = _pipeline(outbox, clock)
        before = written_bytes()
        for second in range(_HOUR_S):
            hour.ms = second * 1000
            for wearable in range(wearables):
                pipeline.submit(bytes([wearable]) * 16, _readings(wearable, second))
            if (second + 1) * 1000 % tick_ms == 0:
                await pipeline.flush()
        return outbox.stats().appended_bytes, written_bytes() - before


def _pipeline(outbox: Outbox, clock: Clock) -> Pipeline:
    signer = Ed25519Signer(Ed25519PrivateKey.generate())
    recipient = RecipientKey(HPKE_XWING, os.urandom(32)).recipient
    writers = {
        lane: ChainWriter(
            gateway="bench",
            chain=os.urandom(16),
            signer=signer,
            recipients=[recipient],
            predecessor=None,
            random=os.urandom,
        )
        for lane in Lane
    }
    return Pipeline(
        gateway="bench",
        writers=writers,
        outbox=outbox,
        assessor=Assessor(),
        metrics=GatewayMetrics(),
        tick_ms=0,
        offline_tick_ms=0,
        heartbeat_s=60.0,
        online=lambda: False,
        clock=clock,
        profile=lambda _: "plx",
    )


def _readings(wearable: int, second: int) -> list[Reading]:
    device = f"F0:00:00:00:00:{wearable:02X}"
    time_ms = _NOW_MS + 1000 * second + wearable
    values = ((SPO2, 940 + (7 * second + wearable) % 60), (PULSE_RATE, 600 + (11 * second + wearable) % 300))
    return [Reading(device, metric, value, -1, time_ms) for metric, value in values]
