"""Faults of processes: SIGKILL, and a broker that comes back without its memory."""

import asyncio
import random
import signal
import time

from gateway.lab.faults.fault import LOST, Effect, Fault, gateway_total, lost_beyond
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost

_NOTICED_S = 5.0
_OFFLINE_S = (1.0, 6.0)


async def _kill_gateway(rig: Rig, hold_s: float, rng: random.Random) -> Effect:
    """One kill of two comes while the uplink is cut, so that bundles wait on the disk and ticks are long."""
    offline_s = rng.choice((0.0, rng.uniform(*_OFFLINE_S)))
    if offline_s:
        rig.proxy.cut()
        await asyncio.sleep(offline_s)
    before = await rig.status()
    ended = await rig.kill_gateway()
    await asyncio.sleep(hold_s)
    started_s = time.monotonic()
    await rig.start_gateway()
    ready_s = time.monotonic() - started_s
    rig.proxy.mend()
    after = await rig.status()
    when = f"{offline_s:.1f} s into an outage" if offline_s else "while online"
    return Effect(
        took=ended == -signal.SIGKILL and after["chain"] != before["chain"],
        seen=f"ended by signal {-ended} {when}, with {before['bundles_waiting']} bundles waiting; down {hold_s:.1f} s;"
        f" ready {ready_s:.1f} s after its start, in a new chain",
    )


async def _kill_receiver(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    ended = await rig.children["receiver"].kill()
    await asyncio.sleep(hold_s)
    waiting = (await rig.status())["bundles_waiting"]
    await rig.start_receiver()
    return Effect(
        took=ended == -signal.SIGKILL and waiting > 0,
        seen=f"ended by signal {-ended}; down {hold_s:.1f} s, while {waiting} bundles waited at the gateway",
    )


async def _kill_broker(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before = await gateway_total(rig, LOST)
    ended = await rig.children["broker"].kill()
    lost = await lost_beyond(rig, before, within_s=_NOTICED_S)
    await asyncio.sleep(hold_s)
    await rig.start_broker()
    return Effect(
        took=ended == -signal.SIGKILL and lost > 0,
        seen=f"ended by signal {-ended}; down {hold_s:.1f} s; the gateway counted the loss",
    )


async def _restart_broker_without_memory(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    before = await gateway_total(rig, LOST)
    await rig.children["broker"].stop()
    forgotten_bytes = rig.broker.forget()
    lost = await lost_beyond(rig, before, within_s=_NOTICED_S)
    await asyncio.sleep(hold_s)
    await rig.start_broker()
    return Effect(
        took=lost > 0 and (forgotten_bytes > 0 or not rig.broker.persistent),
        seen=f"stopped, its {forgotten_bytes} bytes on the disk deleted; down {hold_s:.1f} s; the gateway counted the"
        " loss",
    )


FAULTS = (
    Fault(
        "kill-gateway", "SIGKILL of the gateway, online or offline, then a start", Cost(0.1, 1.5, 6.0), _kill_gateway
    ),
    Fault("kill-receiver", "SIGKILL of the receiver, then a start", Cost(1.0, 3.0, 2.0), _kill_receiver),
    Fault("kill-broker", "SIGKILL of the broker, then a start", Cost(0.1, 2.0, 3.0), _kill_broker),
    Fault(
        "broker-amnesia",
        "stop of the broker, then a start without sessions, messages and retained topics",
        Cost(0.1, 2.0, 3.0),
        _restart_broker_without_memory,
    ),
)
