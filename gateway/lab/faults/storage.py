"""Faults of storage: a database that takes nothing, a torn tail."""

import asyncio
import os
import random
import resource

from gateway.lab.faults.fault import Effect, Fault, watch
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost
from gateway.outbox.framing import Damage, FrameKind, encode_frame, scan

_SEEN_S = 20.0
_STORE_ERRORS = "iomt_receiver_store_errors_total"


async def _database_read_only(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    pid = rig.children["receiver"].pid
    before = (await rig.receiver()).total(_STORE_ERRORS)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    async def errors() -> float:
        return (await rig.receiver()).total(_STORE_ERRORS) - before

    refused = await watch(errors, lambda count: count > 0, within_s=_SEEN_S)
    committed = len(rig.cloud.bundles())
    await asyncio.sleep(hold_s)
    more = len(rig.cloud.bundles()) - committed
    waiting = (await rig.status())["bundles_waiting"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    return Effect(
        took=refused > 0 and more == 0,
        seen=f"commits refused: {await errors():.0f}; nothing stored for {hold_s:.1f} s; bundles waiting at the"
        f" gateway: {waiting}",
    )


async def _torn_tail(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    await rig.kill_gateway()
    path = max(rig.site.outbox.glob("*.seg"))
    end = max(each.end for each in scan(path.read_bytes()))
    whole = encode_frame(FrameKind.BUNDLE, rng.randbytes(1024), rng.randbytes(128), end)
    torn = whole[: rng.randrange(1, len(whole))]
    with path.open("r+b") as file:
        file.seek(end)
        file.write(torn)
        os.fsync(file.fileno())
    found = any(isinstance(each, Damage) and each.offset >= end for each in scan(path.read_bytes()))
    await asyncio.sleep(hold_s)
    await rig.start_gateway()
    return Effect(
        took=found,
        seen=f"{len(torn)} bytes of a frame of {len(whole)} behind the last whole one; the gateway started",
    )


FAULTS = (
    Fault(
        "database-read-only",
        "every write of the receiver to its files is refused (EFBIG)",
        Cost(2.0, 4.0, 3.0),
        _database_read_only,
    ),
    Fault("torn-tail", "a frame half written at the end of the outbox, after SIGKILL", Cost(0.0, 1.0, 3.0), _torn_tail),
)
