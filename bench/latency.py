"""From a notification's value to its committed row: 20 wearables, one value a second each, without a tick and with it.

The value of a continuous glucose monitor is decoded, judged, sealed, signed, synced, sent through mosquitto with mutual
TLS, verified, opened and committed. Both processes read the machine's monotonic clock. Beside it in the same run the
sync alone, and what a bare aiomqtt publish over the same broker takes until its acknowledgement.
"""

import asyncio
import random
from typing import Any

import aiomqtt

from bench import _rig
from bench._measure import spread
from bench._readings import reading
from gateway import health
from gateway.identity.tls import client_context
from gateway.lab.site import GATEWAY, Site
from gateway.supervisor import Gateway

_WEARABLES = 20
_SECONDS = 15
_ROUND_TRIPS = 300
_VALUE = bytes.fromhex("06 00 68 00 12 00")
_TICKS = {"no tick": _rig.NO_TICK, "default tick": ""}


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    results: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for name, extra in _TICKS.items():
        whole_ms, sync_ms, bare_ms = asyncio.run(_measure(extra))
        results |= {
            f"{name}, notification to row, p50": _at(whole_ms, 0.5),
            f"{name}, notification to row, p99": _at(whole_ms, 0.99),
            f"{name}, write and fdatasync, p99": _at(sync_ms, 0.99),
            f"{name}, bare aiomqtt round trip, p50": _at(bare_ms, 0.5),
        }
        ratios[f"{name}, notification to row / bare round trip, p50"] = _rig.quantile(whole_ms, 0.5) / _rig.quantile(
            bare_ms, 0.5
        )
    return {"results": results, "ratios": ratios}


def _at(values_ms: list[float], share: float) -> dict[str, float | str]:
    return spread([_rig.quantile(values_ms, share)], "ms")


async def _measure(extra: str) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of every value's way, of every sync, and of every bare round trip."""
    sync_ms: list[float] = []
    with _rig.place() as root:
        site = _rig.lay_out(root, extra)
        async with _rig.broker(site), _rig.receiver(site, "bench._receiver"):
            with _rig.opened(site) as served:
                async with _rig.sending(served, ticking=True):
                    await _warm_up(served)
                    served.outbox.on_fsync = lambda seconds: sync_ms.append(seconds * 1000)
                    sent_s = await _notify(served)
                    await _rig.until_receipted(served)
            bare_ms = await _bare(site)
        committed_s = _committed(site)
    return [(committed_s[number] - sent_s[number]) * 1000 for number in sent_s], sync_ms, bare_ms


async def _warm_up(served: Gateway) -> None:
    """Let every stream open its epoch, as it does once an hour."""
    for index in range(_WEARABLES):
        served.pipeline.submit(b"wearable %07d" % index, [reading(2**31 + index)])
    await asyncio.sleep(1)
    await _rig.until_receipted(served)


async def _notify(served: Gateway) -> dict[int, float]:
    """Let every wearable speak once a second, each at a moment of its own; when each number was said."""
    sent_s: dict[int, float] = {}

    async def wearable(index: int) -> None:
        await asyncio.sleep(random.random())
        for turn in range(_SECONDS):
            number = index * _SECONDS + turn
            sent_s[number] = _rig.now_s()
            health.decode(0x2AA7, _VALUE)
            served.pipeline.submit(b"wearable %07d" % index, [reading(number, f"F0:00:00:00:00:{index:02X}")])
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        for index in range(_WEARABLES):
            group.create_task(wearable(index))
    return sent_s


def _committed(site: Site) -> dict[int, float]:
    """When each number was committed, as the receiver told."""
    lines = (site.logs / "receiver.log").read_text().splitlines()
    pairs = (line.split() for line in lines)
    return {int(pair[0]): float(pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdecimal()}


async def _bare(site: Site) -> list[float]:
    """Milliseconds of publishes with QoS 1, one after the other."""
    times_ms = []
    tls = client_context(
        site.pki / "ca.crt", *(site.pki / "gateways" / GATEWAY / f"tls.{end}" for end in ("crt", "key"))
    )
    async with aiomqtt.Client(
        "127.0.0.1", site.broker_port, identifier=GATEWAY, tls_context=tls, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        for _ in range(_ROUND_TRIPS):
            started_s = _rig.now_s()
            await client.publish(f"v1/gw/{GATEWAY}/up/data", bytes(300), qos=1)
            times_ms.append((_rig.now_s() - started_s) * 1000)
    return times_ms
