"""Faults of the broker's rules: topics denied, packets too large."""

import asyncio
import random
import signal

from gateway.lab.brokers import EmbeddedBroker, Mosquitto
from gateway.lab.faults.fault import Effect, Fault, gateway_total, watch
from gateway.lab.rig import Rig
from gateway.lab.schedule import Cost

_SEEN_S = 20.0
_RULES_READ_S = 1.0
_PARKED = "iomt_gateway_uplink_parked_bundles"
_ACKNOWLEDGED = "iomt_gateway_uplink_acknowledged_bundles_total"
_SMALL_PACKET_BYTES = 1_600
"""Less than a bundle that opens an epoch, more than anything that lets a connection come about."""


async def _denied_topics(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    broker = rig.children["broker"]
    rig.broker.deny_uplink(broker, deny=True)
    silent = isinstance(rig.broker, EmbeddedBroker)
    effect = await (_denied_silently(rig, hold_s) if silent else _denied_by_code(rig, hold_s))
    rig.broker.deny_uplink(broker, deny=False)
    # Whoever mends the broker's rules tells the gateway so, once the broker has read them.
    await asyncio.sleep(_RULES_READ_S)
    rig.children["gateway"].signal(signal.SIGHUP)
    return effect


async def _denied_by_code(rig: Rig, hold_s: float) -> Effect:
    parked = await watch(lambda: gateway_total(rig, _PARKED), lambda count: count > 0, within_s=_SEEN_S)
    await asyncio.sleep(hold_s)
    return Effect(
        took=parked > 0, seen=f"bundles refused with a reason code, which the gateway parked: {parked:.0f} or more"
    )


async def _denied_silently(rig: Rig, hold_s: float) -> Effect:
    committed, before = len(rig.cloud.bundles()), await gateway_total(rig, _ACKNOWLEDGED)
    acknowledged = await watch(
        lambda: gateway_total(rig, _ACKNOWLEDGED), lambda now: now > before + 1, within_s=_SEEN_S
    )
    await asyncio.sleep(hold_s)
    stored = len(rig.cloud.bundles()) - committed
    return Effect(
        took=acknowledged - before > stored,
        seen=f"of {acknowledged - before:.0f} bundles that the broker acknowledged {stored} reached the store",
    )


async def _oversize_refusal(rig: Rig, hold_s: float, _: random.Random) -> Effect:
    assert isinstance(rig.broker, Mosquitto)  # noqa: S101 - see `_without_mosquitto`
    await rig.children["broker"].stop()
    rig.children["broker"] = await rig.broker.start(maximum_packet_bytes=_SMALL_PACKET_BYTES)
    # A new chain opens every stream's epoch, which makes large bundles.
    await rig.kill_gateway()
    await rig.start_gateway()
    parked = await watch(lambda: gateway_total(rig, _PARKED), lambda count: count > 0, within_s=_SEEN_S)
    await asyncio.sleep(hold_s)
    await rig.children["broker"].stop()
    await rig.start_broker()
    return Effect(
        took=parked > 0,
        seen=f"the broker took {_SMALL_PACKET_BYTES} bytes a packet; larger bundles that were parked: {parked:.0f}",
    )


def _without_mosquitto(rig: Rig) -> str:
    return "" if isinstance(rig.broker, Mosquitto) else "mosquitto is not installed; on Debian: apt install mosquitto"


FAULTS = (
    Fault("denied-topics", "the broker denies the gateway its topics", Cost(1.0, 3.0, 4.0), _denied_topics),
    Fault(
        "oversize-refusal",
        "the broker takes small packets only, while a killed gateway starts with large bundles",
        Cost(1.0, 2.0, 7.0),
        _oversize_refusal,
        _without_mosquitto,
    ),
)
