"""Faults of the network between gateway and broker, done by the proxy."""

import asyncio
import random
import time

from gateway.lab.faults.fault import KEEPALIVE_S, LOST, Effect, Fault, gateway_total, lost_beyond, watch
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost

_NOTICED_S = 5.0
_SILENCE_S = 2.0 * KEEPALIVE_S
"""Two keepalives: so long a connection may be dead before the gateway knows."""
_GRACE_S = 2.0
"""What a busy machine may add."""
_CUT_CHANCE = 0.01
_FIRST_CUT_S = 120.0
_DELAY_S = (0.2, 0.6)
_PUBACK = "iomt_gateway_uplink_puback_seconds"


async def _cut(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before, resets = await gateway_total(rig, LOST), rig.proxy.resets
    rig.proxy.cut()
    await asyncio.sleep(hold_s)
    lost = await lost_beyond(rig, before, within_s=_NOTICED_S)
    waiting = (await rig.status())["bundles_waiting"]
    rig.proxy.mend()
    resets = rig.proxy.resets - resets
    return Effect(
        took=resets > 0 and lost > 0,
        seen=f"connections reset: {resets}, and all new ones for {hold_s:.1f} s; the gateway counted {lost:.0f} losses;"
        f" bundles waiting on its disk: {waiting}",
    )


async def _black_hole(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before, swallowed = await gateway_total(rig, LOST), rig.proxy.swallowed_bytes
    rig.proxy.hole()
    noticed_s = await _noticed(rig, before)
    await asyncio.sleep(hold_s)
    rig.proxy.mend()
    swallowed = rig.proxy.swallowed_bytes - swallowed
    return _silence(took=swallowed > 0, seen=f"{swallowed} bytes vanished", noticed_s=noticed_s)


async def _half_open(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before, halved = await gateway_total(rig, LOST), rig.proxy.halved
    rig.proxy.half_open()
    noticed_s = await _noticed(rig, before)
    await asyncio.sleep(hold_s)
    halved = rig.proxy.halved - halved
    return _silence(took=halved > 0, seen=f"connections left half open: {halved}", noticed_s=noticed_s)


async def _noticed(rig: Rig, before: float) -> float | None:
    """Seconds until the gateway has lost a connection; None if it does not."""
    started_s = time.monotonic()
    lost = await lost_beyond(rig, before, within_s=2 * _SILENCE_S)
    return time.monotonic() - started_s if lost else None


def _silence(*, took: bool, seen: str, noticed_s: float | None) -> Effect:
    """Without a word from the network the gateway has to notice by itself, in time."""
    if noticed_s is None:
        return Effect(took=took, seen=seen, broken=f"not noticed within {2 * _SILENCE_S:.0f} s")
    late = noticed_s > _SILENCE_S + _GRACE_S
    return Effect(
        took=took,
        seen=f"{seen}; the gateway noticed after {noticed_s:.1f} s",
        broken=f"noticed later than two keepalives ({_SILENCE_S:.0f} s)" if late else "",
    )


async def _latency(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    delay_s = rng.uniform(*_DELAY_S)
    before = await rig.gateway()
    rig.proxy.degrade(delay_s=delay_s, cut_chance=0.0, rng=rng)
    await asyncio.sleep(hold_s)
    after = await rig.gateway()
    rig.proxy.mend()
    count, total_s = (after.total(f"{_PUBACK}_{each}") - before.total(f"{_PUBACK}_{each}") for each in ("count", "sum"))
    mean_s = total_s / count if count else 0.0
    return Effect(
        took=mean_s > delay_s,
        seen=f"{delay_s * 1000:.0f} ms each way for {hold_s:.1f} s; {count:.0f} publishes were acknowledged after"
        f" {mean_s * 1000:.0f} ms in the mean",
    )


async def _one_percent_cuts(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    before, resets = await gateway_total(rig, LOST), rig.proxy.resets
    rig.proxy.degrade(delay_s=0.0, cut_chance=_CUT_CHANCE, rng=rng)
    started_s = time.monotonic()
    await asyncio.sleep(hold_s)

    async def cuts() -> int:
        return rig.proxy.resets - resets

    await watch(cuts, lambda count: count > 0, within_s=_FIRST_CUT_S)
    lost = await lost_beyond(rig, before, within_s=_NOTICED_S)
    rig.proxy.mend()
    return Effect(
        took=await cuts() > 0 and lost > 0,
        seen=f"connections reset: {await cuts()} in {time.monotonic() - started_s:.1f} s; the gateway counted"
        f" {lost:.0f} losses",
    )


FAULTS = (
    Fault("cut", "every connection reset, new ones too", Cost(1.0, 4.0, 1.0), _cut),
    Fault("black-hole", "bytes vanish both ways, nobody is told", Cost(0.0, 2.0, 6.0), _black_hole),
    Fault("half-open", "the broker's end goes, the gateway's stays open", Cost(0.0, 1.0, 6.0), _half_open),
    Fault("latency", "everything arrives late", Cost(4.0, 6.0, 1.0), _latency),
    Fault("one-percent-cuts", "one packet of a hundred resets its connection", Cost(5.0, 10.0, 8.0), _one_percent_cuts),
)
