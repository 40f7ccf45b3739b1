"""A fleet into a cloud: three NATS nodes, PostgreSQL and workers on loopback, and 2,000 simulated gateways.

What is sent is sealed beforehand. While it is published the workers are stopped (SIGSTOP), so that the load is on the
cluster alone; then they run, and how long it takes until everything is committed is their rate. All share this machine.
"""

import asyncio
import signal
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from bench._measure import spread
from bench._rig import processor_s, resident_bytes
from gateway.lab.cloud_rig import CloudRig
from gateway.lab.fleet import Shape, ticks
from gateway.lab.nats import NODES
from gateway.lab.process import Child
from gateway.receiver.plan import Message

_ROUNDS = 3
_LOOK_S = 0.02
_PATIENCE_S = 300
_NOW_MS = 1_790_000_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent in every round."""

    name: str
    shape: Shape
    gateways: int
    ticks: int


_LOADS = (Load("one reading", Shape(1, 1), 2000, 2), Load("64 streams of 16", Shape(64, 16), 16, 12))


def run() -> dict[str, Any]:
    """Measure; nats-server and PostgreSQL have to be installed."""
    return asyncio.run(_measure())


async def _measure() -> dict[str, Any]:
    rates: dict[str, list[float]] = {}
    # On a disk: what is committed is synced.
    with TemporaryDirectory(dir=".", prefix=".bench-") as root:
        names = [f"sim-{number}" for number in range(max(load.gateways for load in _LOADS))]
        async with CloudRig(Path(root).absolute(), names) as rig:
            workers = [await rig.start_worker("one")]
            for name in ("one worker", "two workers"):
                for load in _LOADS:
                    with closing(Bench(rig, load, rates)) as bench:
                        if len(workers) == 1:
                            await bench.open_epochs()
                        for _ in range(_ROUNDS):
                            await bench.round(name, workers)
                workers.append(await rig.start_worker("two"))
    medians = {name: spread(values, "")["median"] for name, values in rates.items()}
    ratios = {
        f"{load.name}: two workers / one": float(medians[f"{load.name}: two workers, readings/s"])
        / float(medians[f"{load.name}: one worker, readings/s"])
        for load in _LOADS
    }
    memory = rates["first worker, MB resident"]
    ratios["memory of a worker at the end / after one pass"] = memory[-1] / memory[len(_LOADS) * _ROUNDS - 1]
    units = {name: name.rpartition(", ")[2] for name in rates}
    return {"results": {name: spread(values, units[name]) for name, values in rates.items()}, "ratios": ratios}


@dataclass
class Usage:
    """Processor seconds that the parts have used so far, and bytes of write-ahead log."""

    workers_s: float
    database_s: float
    nodes_s: float
    log_bytes: int


class Bench:
    """One load, round by round; `rates` gathers what is measured, by name."""

    def __init__(self, rig: CloudRig, load: Load, rates: dict[str, list[float]]) -> None:
        self._rig = rig
        self._load = load
        self._rates = rates
        self._database = psycopg.connect(rig.database.url("fleet"), autocommit=True)
        self._sent = rig.stored()

    async def round(self, name: str, workers: list[Child]) -> None:
        """Publish to stopped workers, then let them run."""
        load, messages = self._load, self._sealed(self._load.ticks)
        _signal(workers, signal.SIGSTOP)
        before, started_s = self._usage(workers), time.monotonic()
        await self._rig.send(messages)
        published_s, published = time.monotonic() - started_s, self._usage(workers)
        kept = self._bytes()
        _signal(workers, signal.SIGCONT)
        started_s = time.monotonic()
        await self._until_stored(len(messages))
        taken_s, after = time.monotonic() - started_s, self._usage(workers)
        bundles, readings = len(messages), load.gateways * load.ticks * load.shape.streams * load.shape.readings
        nodes_s = after.nodes_s - before.nodes_s
        self._note("acknowledged by the cluster, bundles/s", bundles / published_s)
        self._note(f"{name}, readings/s", readings / taken_s)
        self._note(f"{name}, bundles/s", bundles / taken_s)
        self._note(f"{name}: CPU of workers, µs/bundle", 1e6 * (after.workers_s - published.workers_s) / bundles)
        self._note(f"{name}: CPU of PostgreSQL, µs/bundle", 1e6 * (after.database_s - published.database_s) / bundles)
        self._note("CPU of the three nodes, µs/bundle", 1e6 * nodes_s / bundles)
        self._note("sent, bytes/bundle", sum(len(each.payload) for each in messages) / bundles)
        self._note("store, bytes/bundle", (self._bytes() - kept) / bundles)
        self._note("log of PostgreSQL, bytes/bundle", (after.log_bytes - published.log_bytes) / bundles)
        self._rates.setdefault("first worker, MB resident", []).append(resident_bytes(workers[0].pid) / (1 << 20))

    async def open_epochs(self) -> None:
        """What every gateway sends once an hour: its streams' keys."""
        messages = self._sealed(1)
        await self._rig.send(messages)
        await self._until_stored(len(messages))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _sealed(self, count: int) -> list[Message]:
        chosen = self._rig.gateways[: self._load.gateways]
        return list(ticks(chosen, self._load.shape, count, now_ms=_NOW_MS))

    async def _until_stored(self, count: int) -> None:
        self._sent += count
        async with asyncio.timeout(_PATIENCE_S):
            while self._rig.stored() < self._sent:  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(_LOOK_S)

    def _usage(self, workers: list[Child]) -> Usage:
        [(log_bytes,)] = self._database.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchall()
        return Usage(
            sum(processor_s(each.pid) for each in workers),
            sum(map(processor_s, _with_children(self._rig.database.process))),
            sum(processor_s(self._rig.nodes.process(number)) for number in range(NODES)),
            int(log_bytes),
        )

    def _bytes(self) -> int:
        [(size,)] = self._database.execute("SELECT pg_database_size(current_database())").fetchall()
        return int(size)

    def _note(self, what: str, value: float) -> None:
        self._rates.setdefault(f"{self._load.name}: {what}", []).append(value)


def _signal(workers: Iterable[Child], number: signal.Signals) -> None:
    for each in workers:
        each.signal(number)


def _with_children(parent: int) -> list[int]:
    """A process and those that it started and that still run."""
    found = [parent]
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found
