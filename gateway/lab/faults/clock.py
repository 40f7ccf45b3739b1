"""Faults of the clock: the gateway's wall clock is set wrong, and right again."""

import asyncio
import random

from gateway.lab.faults.fault import Effect, Fault, watch
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost

_TOLD_S = 30.0
_STEP_MS = (3_600_000, 48 * 3_600_000)
_ERROR_MS = 1_000
"""How exactly the gateway has to tell the step."""


async def _clock_step(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    by_ms = rng.randrange(*_STEP_MS)
    rig.step_clock(by_ms)
    forward = await _told(rig, by_ms)
    await asyncio.sleep(hold_s)
    rig.step_clock(0)
    back = await _told(rig, -by_ms)
    hours = by_ms / 3_600_000
    return Effect(
        took=forward or back,
        seen=f"ahead by {hours:.1f} h, and right again after {hold_s:.1f} s; signed records told"
        f" {'both steps' if forward and back else 'one step' if forward or back else 'no step'}",
        broken="" if forward and back else "not every step was told",
    )


async def _told(rig: Rig, by_ms: int) -> bool:
    """Whether the receiver is told of a step of that size."""

    async def told() -> bool:
        return any(abs(step_ms - by_ms) <= _ERROR_MS for _, _, step_ms in rig.cloud.events("clock-step"))

    return await watch(told, bool, within_s=_TOLD_S)


FAULTS = (
    Fault("clock-step", "the gateway's wall clock ahead by hours, and right again", Cost(3.0, 6.0, 6.0), _clock_step),
)
