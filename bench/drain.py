"""Draining an outage's backlog of a million readings: readings/s until the last receipt, and the memory of both sides.

64 wearables with 8 values a second each. The backlog is made as the outage would have made it, but at once: what one
tick gathers, at the default tick of 2 s while offline and at one of 60 s. Then broker and receiver come up.
"""

import asyncio
import os
from typing import Any

from bench import _rig
from bench._measure import spread
from bench._readings import reading
from gateway.lab.process import Child
from gateway.supervisor import Gateway

_READINGS = 1_000_000
_STREAMS = 64
_PER_S = 8
_TICKS_S = (2, 60)
_LOOK_S = 0.25


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    results: dict[str, Any] = {}
    ratios = {}
    for tick_s in _TICKS_S:
        rate, gateway_mb, receiver_mb = asyncio.run(_measure(tick_s))
        case = f"tick of {tick_s} s"
        results[case] = spread([rate], "readings/s")
        for side, sizes in (("gateway", gateway_mb), ("receiver", receiver_mb)):
            early = sizes[: len(sizes) // 2]
            results[f"{case}, {side}'s memory"] = spread(sizes, "MB")
            ratios[f"{case}, {side}'s memory, most / most in the first half"] = max(sizes) / max(early)
    return {"results": results, "ratios": ratios}


async def _measure(tick_s: int) -> tuple[float, list[float], list[float]]:
    """Readings per second, and both sides' resident megabytes along the way."""
    with _rig.place() as root:
        site = _rig.lay_out(root)
        with _rig.opened(site) as served:
            await _fill(served, tick_s)
            async with _rig.broker(site), _rig.receiver(site) as receiver:
                started_s = _rig.now_s()
                sizes = asyncio.create_task(_sizes(receiver))
                async with _rig.sending(served, ticking=True):
                    await _rig.until_receipted(served, 600)
                seconds = _rig.now_s() - started_s
                sizes.cancel()
                return _READINGS / seconds, *await sizes


async def _fill(served: Gateway, tick_s: int) -> None:
    each = _PER_S * tick_s
    streams = [os.urandom(16) for _ in range(_STREAMS)]
    for tick in range(_READINGS // (_STREAMS * each)):
        batch = [reading(tick * each + number) for number in range(each)]
        for stream in streams:
            served.pipeline.submit(stream, batch)
        await served.pipeline.flush()


async def _sizes(receiver: Child) -> tuple[list[float], list[float]]:
    """Look now and then, until cancelled."""
    ours: list[float] = []
    theirs: list[float] = []
    try:
        while True:
            ours.append(_rig.resident_bytes(os.getpid()) / 1e6)
            theirs.append(_rig.resident_bytes(receiver.pid) / 1e6)
            await asyncio.sleep(_LOOK_S)
    except asyncio.CancelledError:
        return ours, theirs
