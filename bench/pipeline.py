"""Decoded readings to verified receipts: seal, sign, fdatasync, mutual TLS, mosquitto, verify, SQLite commit, receipt.

64 streams with 1, 16 or 128 readings a stream and tick. The gateway runs in this process, broker and receiver in their
own. The clock runs from the first reading handed in to the last receipt verified. By turns with ThingsBoard's gateway,
which writes each reading to its SQLite store and publishes it as plain JSON over plain MQTT: there the clock runs until
the last reading is at the broker.
"""

import asyncio
import os
from typing import Any

from bench import _rig, _thingsboard
from bench._measure import spread
from bench._readings import reading
from gateway.supervisor import Gateway

_STREAMS = 64
_TICKS = {1: 150, 16: 60, 128: 20}
_PEER_TICKS = {1: 40, 16: 10, 128: 2}
_ROUNDS = 3
_AHEAD_BUNDLES = 64


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    ours: dict[int, list[tuple[float, float, float]]] = {readings: [] for readings in _TICKS}
    theirs: dict[int, list[float]] = {readings: [] for readings in _TICKS}
    for _ in range(_ROUNDS):
        for readings, ticks in _TICKS.items():
            ours[readings].append(asyncio.run(_measure(readings, ticks)))
        for readings, rate in asyncio.run(_measure_peer()).items():
            theirs[readings].append(rate)
    results, ratios = {}, {}
    for readings in _TICKS:
        case = f"{_STREAMS} streams, {readings} a stream and tick"
        rates, *processors = zip(*ours[readings], strict=True)
        results[case] = spread(rates, "readings/s")
        for side, costs in zip(("gateway", "receiver"), processors, strict=True):
            results[f"{case}, {side}'s processor"] = spread(costs, "µs/reading")
        results[f"ThingsBoard, {case}"] = spread(theirs[readings], "readings/s")
        ratios[f"here / ThingsBoard, {readings} a stream and tick"] = _median(results[case]) / _median(
            results[f"ThingsBoard, {case}"]
        )
    return {"results": results, "ratios": ratios}


def _median(result: dict[str, float | str]) -> float:
    return float(result["median"])


async def _measure(readings: int, ticks: int) -> tuple[float, float, float]:
    """Of one run: readings per second, and microseconds of the gateway's and the receiver's processor a reading."""
    with _rig.place() as root:
        site = _rig.lay_out(root, _rig.NO_TICK)
        async with _rig.broker(site), _rig.receiver(site) as receiver:
            with _rig.opened(site) as served:
                async with _rig.sending(served):
                    served.pipeline.submit(b"warm up" + bytes(9), [reading(0)])
                    await served.pipeline.flush()
                    await _rig.until_receipted(served)
                    before_s = [_rig.processor_s(each) for each in (os.getpid(), receiver.pid)]
                    started_s = _rig.now_s()
                    await _feed(served, readings, ticks)
                    total, seconds = _STREAMS * readings * ticks, _rig.now_s() - started_s
                    after_s = [_rig.processor_s(each) for each in (os.getpid(), receiver.pid)]
                    gateway_s, receiver_s = (after - each for after, each in zip(after_s, before_s, strict=True))
                    return total / seconds, 1e6 * gateway_s / total, 1e6 * receiver_s / total


async def _feed(served: Gateway, readings: int, ticks: int) -> None:
    streams = [os.urandom(16) for _ in range(_STREAMS)]
    for tick in range(ticks):
        batch = [reading(tick * readings + number) for number in range(readings)]
        for stream in streams:
            served.pipeline.submit(stream, batch)
        await served.pipeline.flush()
        await _rig.until(lambda: served.outbox.waiting() < _AHEAD_BUNDLES)
    await _rig.until_receipted(served)


async def _measure_peer() -> dict[int, float]:
    """Readings per second of the peer, by readings a stream and tick."""
    rates = {}
    with _rig.place() as root:
        async with (
            _thingsboard.plain_broker(root) as port,
            _thingsboard.observed(port) as cloud,
            _thingsboard.running(root / "peer", port, cloud, "--eager") as peer,
        ):
            for readings, ticks in _PEER_TICKS.items():
                before, started_s = cloud.readings, _rig.now_s()
                for tick in range(ticks):
                    peer.push(_STREAMS, readings, tick * readings)
                wanted = before + _STREAMS * readings * ticks
                await _rig.until(lambda wanted=wanted: cloud.readings >= wanted, 120)  # type: ignore[misc] # a default that mypy cannot infer
                rates[readings] = _STREAMS * readings * ticks / (cloud.last_s - started_s)
    return rates
