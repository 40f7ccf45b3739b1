"""Whatever is killed under load: every acknowledged bundle is stored once, and the lag recovers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest

from gateway.errors import ConfigError
from gateway.lab.cloud_rig import CloudRig
from gateway.lab.fleet import Shape
from gateway.lab.nats import NODES
from tests.receiver.serving import running

GATEWAYS = 50
ONE = Shape(1, 1)
TURN_S = 0.25
"""Every gateway sends a bundle each turn."""
BEFORE_S = 2.0
RECOVERS_S = 120.0
FLOWS = 2 * GATEWAYS
"""So many bundles more in the store say that all works again."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[CloudRig]:
    try:
        rig = CloudRig(tmp_path / "cloud", [f"sim-{number}" for number in range(GATEWAYS)])
    except ConfigError as error:
        pytest.skip(str(error))
    async with rig:
        for name in ("one", "two"):
            await rig.start_worker(name)
        yield rig


@dataclass
class Progress:
    """How many bundles there were, and the longest time without a new one."""

    count: int = 0
    silence_s: float = 0.0
    grown_s: float = field(default_factory=time.monotonic)

    def see(self, count: int) -> None:
        now_s = time.monotonic()
        self.silence_s = max(self.silence_s, now_s - self.grown_s)
        if count > self.count:
            self.count, self.grown_s = count, now_s


@dataclass
class Load:
    """A steady flow of bundles: what the cluster has acknowledged, and what the store has."""

    rig: CloudRig
    acknowledged: Progress = field(default_factory=Progress)
    stored: Progress = field(default_factory=Progress)
    enough: bool = False

    async def flow(self) -> None:
        """Ends with a whole turn, so that nothing is on its way that was not acknowledged."""
        while not self.enough:
            due_s = time.monotonic() + TURN_S
            now_ms = time.time_ns() // 1_000_000
            bundles = [bundle for each in self.rig.gateways for bundle in each.seal(ONE, now_ms=now_ms)]
            await self.rig.send(bundles, lambda _: self.acknowledged.see(self.acknowledged.count + 1))
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def watch(self) -> None:
        while True:
            with suppress(psycopg.Error):
                self.stored.see(self.rig.stored())
            await asyncio.sleep(0.05)

    async def until_stored(self, count: int) -> None:
        async with asyncio.timeout(RECOVERS_S):
            while self.stored.count < count:  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(0.05)


async def test_nothing_is_lost_or_doubled_whatever_is_killed(rig: CloudRig, capsys: pytest.CaptureFixture[str]) -> None:
    load = Load(rig)
    told = []

    async def survive(name: str, kill: Callable[[], Awaitable[object]], again: Callable[[], Awaitable[object]]) -> None:
        """Kill something under load and start it again; how long nothing was acknowledged, and nothing stored."""
        await asyncio.sleep(BEFORE_S)
        load.acknowledged.silence_s = load.stored.silence_s = 0.0
        before = load.stored.count
        await kill()
        await load.until_stored(before + FLOWS)
        silences = {"acknowledged": load.acknowledged.silence_s, "stored": load.stored.silence_s}
        told.append({"killed": name} | {f"nothing_{what}_s": round(each, 1) for what, each in silences.items()})
        await again()

    async with running(load.watch()), asyncio.TaskGroup() as group:
        group.create_task(load.flow())
        for name, worker in list(rig.workers.items()):
            await survive(f"worker {name}", worker.kill, partial(rig.start_worker, name))
        for number in range(NODES):
            await survive(f"node {number}", partial(rig.nodes.kill, number), partial(rig.restart_node, number))
        await survive("PostgreSQL", rig.kill_database, partial(asyncio.sleep, 0))
        await asyncio.sleep(BEFORE_S)
        load.enough = True
    async with running(load.watch()):
        await load.until_stored(load.acknowledged.count)
    with capsys.disabled():
        print(json.dumps({"bundles": load.acknowledged.count, "failovers": told}))  # noqa: T201 - what was measured
    with psycopg.connect(rig.database.url("fleet"), options="-c search_path=iomt") as database:
        numbers = "SELECT count(*), count(DISTINCT (stream_id, chain_id, seq)) FROM reading_rows"
        assert database.execute(numbers).fetchall() == [(load.acknowledged.count,) * 2]
        for table, rows in (("forks", 0), ("parked", 0), ("record_runs", GATEWAYS)):
            assert database.execute(f"SELECT count(*) FROM {table}".encode()).fetchall() == [(rows,)]  # noqa: S608 - ours
