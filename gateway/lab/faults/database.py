"""Faults of the receiver's database."""

import asyncio
import random

from gateway.lab.faults.fault import Effect, Fault, refused_writes, watch
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost

_SEEN_S = 20.0
_STORE_ERRORS = "iomt_receiver_store_errors_total"


async def _database_read_only(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before = (await rig.receiver()).total(_STORE_ERRORS)

    async def errors() -> float:
        return (await rig.receiver()).total(_STORE_ERRORS) - before

    with refused_writes(rig.children["receiver"]):
        refused = await watch(errors, lambda count: count > 0, within_s=_SEEN_S)
        committed = len(rig.cloud.bundles())
        await asyncio.sleep(hold_s)
        more = len(rig.cloud.bundles()) - committed
        waiting = (await rig.status())["bundles_waiting"]
    return Effect(
        took=refused > 0 and more == 0,
        seen=f"commits refused: {await errors():.0f}; nothing stored for {hold_s:.1f} s; bundles waiting at the"
        f" gateway: {waiting}",
    )


FAULTS = (
    Fault(
        "database-read-only",
        "every write of the receiver to its files is refused (EFBIG)",
        Cost(2.0, 4.0, 3.0),
        _database_read_only,
    ),
)
