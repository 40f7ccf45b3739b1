"""SIGKILL of the gateway in a loop, at any moment of its life: while it starts, recovers, links, seals or sends.

SOAK_KILLS says how often (50; `make soak`: 1,000).
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from gateway.lab.prove import Order, rig_for

KILLS = int(os.environ.get("SOAK_KILLS", "50"))
LIFE_S = 1.6
"""A gateway is ready after about 0.8 s, and has linked three wearables after about 1.2 s."""


async def test_nothing_is_lost_or_repeated_however_often_the_gateway_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    chance = random.Random(KILLS)
    rig = rig_for(Order(seconds=2 * LIFE_S * KILLS, wearables=3, rate=1.0, seed=1, faults=()), Path("site"))
    async with rig.at_work():
        for _ in range(KILLS):
            await rig.kill_gateway()
            await rig.spawn_gateway()
            await asyncio.sleep(chance.uniform(0, LIFE_S))
        verdict = await rig.settle(outages=0, settle_s=60, show=lambda: None)
    assert verdict.passed, verdict
    assert verdict.kills == KILLS
    assert verdict.stored > KILLS
