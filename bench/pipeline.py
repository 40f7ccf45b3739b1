"""Decoded readings to verified receipts: seal, sign, fdatasync, mutual TLS, mosquitto, verify, SQLite commit, receipt.

64 streams with 1, 16 or 128 readings a stream and tick. The gateway runs in this process, broker and receiver in their
own. The clock runs from the first reading handed in to the last receipt verified.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench._measure import spread
from gateway.config import GatewayConfig, load
from gateway.health.metrics import GLUCOSE
from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import Site, build, free_port
from gateway.model import Extra, Reading
from gateway.supervisor import Gateway

_STREAMS = 64
_TICKS = {1: 150, 16: 60, 128: 20}
_ROUNDS = 3
_AHEAD_BUNDLES = 64


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    results: dict[str, Any] = {}
    for readings, ticks in _TICKS.items():
        rates = [asyncio.run(_measure(readings, ticks)) for _ in range(_ROUNDS)]
        results[f"{_STREAMS} streams, {readings} a stream and tick"] = spread(rates, "readings/s")
    first, *_, last = results.values()
    return {"results": results, "ratios": {"128 / 1 a stream and tick": last["median"] / first["median"]}}


async def _measure(readings: int, ticks: int) -> float:
    """Readings per second of one run."""
    async with AsyncExitStack() as stack:
        # Socket paths are short, so the site lies in the working directory and is named from there.
        root = Path(os.path.relpath(stack.enter_context(TemporaryDirectory(dir=".", prefix=".bench-"))))
        port = free_port()
        site = Site(root, broker_port=port, uplink_port=port)
        build(site, devices={}, gateway_extra="[outbox]\ntick_ms = 0\noffline_tick_ms = 0\n")
        state = root / "broker"
        state.mkdir()
        broker = await Child.run("broker", *mosquitto.command(site.pki, state, port), logs=site.logs)
        stack.push_async_callback(broker.stop)
        command = ("gateway.cli.receiver", "run", "--config", str(site.receiver_config))
        receiver = await Child.serve("receiver", *command, logs=site.logs)
        stack.push_async_callback(receiver.stop)
        gateway = Gateway(load(site.gateway_config, GatewayConfig))
        stack.callback(gateway.outbox.close)
        tasks = [asyncio.create_task(gateway.pipeline.run()), asyncio.create_task(gateway.uplink.run())]
        try:
            await _receipted(gateway, b"warm up" + bytes(9))
            started = time.perf_counter()
            await _feed(gateway, readings, ticks)
            return _STREAMS * readings * ticks / (time.perf_counter() - started)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _receipted(gateway: Gateway, stream: bytes) -> None:
    gateway.pipeline.submit(stream, [_reading(0)])
    await asyncio.sleep(0.2)
    await _until(lambda: gateway.outbox.stats().bundles == 0)


async def _feed(gateway: Gateway, readings: int, ticks: int) -> None:
    streams = [os.urandom(16) for _ in range(_STREAMS)]
    for tick in range(ticks):
        batch = [_reading(tick * readings + number) for number in range(readings)]
        for stream in streams:
            gateway.pipeline.submit(stream, batch)
        await gateway.pipeline.flush()
        await _until(lambda: gateway.outbox.stats().bundles < _AHEAD_BUNDLES)
    await _until(lambda: gateway.outbox.stats().bundles == 0)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - receipts come from another process
            await asyncio.sleep(0.002)


def _reading(number: int) -> Reading:
    return Reading(
        device="F0:00:00:00:00:01",
        metric=GLUCOSE,
        mantissa=100 + number % 40,
        exponent=0,
        time_ms=1_790_000_000_000 + 300_000 * number,
        extras=((Extra.SEQUENCE, number), (Extra.SESSION, "2026-11-01T08:00:00")),
    )
