"""Gateway, broker and receiver as processes: what was durable before a SIGKILL is stored exactly once."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.lab import mosquitto
from gateway.lab.brokers import EmbeddedBroker, Mosquitto
from gateway.lab.cloud import Cloud
from gateway.lab.process import Child
from gateway.lab.proxy import Proxy
from gateway.lab.site import Site, build, free_port

SOURCE = Path(__file__).with_name("source.py")
DEADLINE_S = 30.0


@pytest.fixture(params=[EmbeddedBroker, Mosquitto])
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Site, Proxy]]:
    if request.param is Mosquitto and mosquitto.program() is None:
        pytest.skip("mosquitto is not installed; on Debian: apt install mosquitto")
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    site = Site(Path(), broker_port=free_port(), uplink_port=free_port())
    build(site, devices={}, gateway_extra="[outbox]\ntick_ms = 0\n")
    async with AsyncExitStack() as stack:
        broker = await request.param(site).start()
        stack.push_async_callback(broker.stop)
        receiver = ("gateway.cli.receiver", "run", "--config", str(site.receiver_config))
        child = await Child.serve("receiver", *receiver, logs=site.logs)
        stack.push_async_callback(child.stop)
        proxy = await stack.enter_async_context(Proxy(listen=site.uplink_port, to=site.broker_port))
        yield site, proxy


async def live(site: Site, first: int, seconds: float) -> int:
    """Run the source for a while and kill it; the highest number that it said was durable."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SOURCE), str(site.gateway_config), str(first)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    if not await process.stdout.readline():
        raise AssertionError((await process.stderr.read()).decode())
    await asyncio.sleep(seconds)
    process.kill()
    said = (await process.stdout.read()).splitlines()
    await process.wait()
    return max([first - 1, *(int(line) for line in said)])


async def numbers_at(cloud: Cloud, expected: set[int]) -> list[int]:
    """The numbers in the store, once all that are expected are there or the deadline has passed."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        numbers = sorted(row.sequence for row in cloud.rows() if row.sequence is not None)
        if expected.issubset(numbers) or time.monotonic() > deadline:
            return numbers
        await asyncio.sleep(0.1)


async def test_every_durable_reading_is_stored_once_whatever_is_killed_or_cut(site: tuple[Site, Proxy]) -> None:
    layout, proxy = site
    cloud = Cloud(layout.receiver_state)
    chance = random.Random(7)
    durable: set[int] = set()
    first = 0
    for life in range(6):
        if life == 2:
            proxy.cut()
        if life == 4:
            proxy.mend()
        last = await live(layout, first, chance.uniform(0.1, 0.8))
        durable.update(range(first, last + 1))
        first = last + 1000
    # The last life empties the outbox.
    source = (sys.executable, str(SOURCE), str(layout.gateway_config), str(first))
    process = await Child.run("gateway", *source, logs=layout.logs)
    try:
        numbers = await numbers_at(cloud, durable)
    finally:
        await process.kill()
    assert durable.issubset(numbers)
    assert len(numbers) == len(set(numbers))
    assert cloud.quarantined() == 0
