"""The outbox against SQLite and against the bare disk: one durable bundle at a time, then recovery of a backlog."""

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench._measure import spread
from gateway.model import Link, SealedBundle, StreamSpan
from gateway.observe.card import written_bytes
from gateway.outbox.outbox import Outbox

_SIZES = {"1 KiB": 1 << 10, "16 KiB": 16 << 10}
_ROUNDS = 15
_COMMITS = 60
_SEGMENT_BYTES = 4 << 20
_CAPACITY_BYTES = 1 << 30
_BACKLOG = 20_000

Commit = Callable[[SealedBundle], Awaitable[None]]


def run() -> dict[str, Any]:
    """Measure on the file system of the working directory, peers by turns."""
    results: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for name, size in _SIZES.items():
        with TemporaryDirectory(dir=".", prefix=".bench-") as scratch:
            times_ms, written_bytes = asyncio.run(_compare(Path(scratch), size))
        for peer, values in times_ms.items():
            results[f"{peer}, {name}"] = spread(values, "ms/commit")
            results[f"{peer}, {name}, written"] = spread([each / size for each in written_bytes[peer]], "x its size")
        median = {peer: results[f"{peer}, {name}"]["median"] for peer in times_ms}
        ratios[f"sqlite / outbox, time, {name}"] = median["sqlite WAL FULL"] / median["outbox"]
        ratios[f"outbox / bare fdatasync, time, {name}"] = median["outbox"] / median["bare pwrite + fdatasync"]
        total = {peer: sum(values) for peer, values in written_bytes.items()}
        ratios[f"sqlite / outbox, written in all, {name}"] = total["sqlite WAL FULL"] / total["outbox"]
    with TemporaryDirectory(dir=".", prefix=".bench-") as scratch:
        results |= asyncio.run(_recover(Path(scratch)))
    return {"results": results, "ratios": ratios}


async def _compare(directory: Path, size: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return per peer the milliseconds, and the bytes given to the disk, per commit of each round."""
    with (
        ThreadPoolExecutor(1) as thread,
        closing(_open(directory / "outbox")) as outbox,
        closing(sqlite3.connect(directory / "log.db", isolation_level=None, check_same_thread=False)) as database,
        (directory / "bare").open("wb", buffering=0) as bare,
    ):
        peers: dict[str, Commit] = {
            "outbox": _outbox(outbox),
            "sqlite WAL FULL": _sqlite(database, thread),
            "bare pwrite + fdatasync": _bare(bare.fileno(), thread),
        }
        times_ms: dict[str, list[float]] = {peer: [] for peer in peers}
        written: dict[str, list[float]] = {peer: [] for peer in peers}
        numbers = count()
        for _ in range(_ROUNDS):
            for peer, commit in peers.items():
                bundles = [_bundle(next(numbers), size) for _ in range(_COMMITS)]
                before_bytes, started_s = written_bytes(), time.perf_counter()
                for bundle in bundles:
                    await commit(bundle)
                times_ms[peer].append((time.perf_counter() - started_s) * 1000 / _COMMITS)
                written[peer].append((written_bytes() - before_bytes) / _COMMITS)
    return times_ms, written


async def _recover(directory: Path) -> dict[str, Any]:
    """Leave a backlog and open it again and again, from the page cache."""
    with closing(_open(directory)) as outbox:
        for no in range(_BACKLOG):
            if not outbox.fits():
                await outbox.roll()
            outbox.append(_bundle(no, 1 << 10))
        await outbox.sync()
    per_second = []
    for _ in range(5):
        started_s = time.perf_counter()
        outbox = _open(directory)
        per_second.append(_BACKLOG / (time.perf_counter() - started_s))
        assert outbox.stats().bundles == _BACKLOG
        outbox.close()
    return {"recovery of 1 KiB bundles": spread(per_second, "bundles/s")}


def _open(directory: Path) -> Outbox:
    return Outbox.open(directory, gateway="bench", segment_bytes=_SEGMENT_BYTES, capacity_bytes=_CAPACITY_BYTES)


def _bundle(no: int, size: int) -> SealedBundle:
    data = os.urandom(size)
    link = Link(b"c" * 16, no, hashlib.sha256(data).digest())
    return SealedBundle(link, data, (StreamSpan(b"s" * 16, no, 1, 0, 0),), opens_epoch=False)


def _outbox(outbox: Outbox) -> Commit:
    async def commit(bundle: SealedBundle) -> None:
        if not outbox.fits():
            await outbox.roll()
        outbox.append(bundle)
        await outbox.sync()

    return commit


def _sqlite(database: sqlite3.Connection, thread: ThreadPoolExecutor) -> Commit:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE bundles (no INTEGER PRIMARY KEY, hash BLOB NOT NULL, data BLOB NOT NULL) STRICT")

    async def commit(bundle: SealedBundle) -> None:
        row = (bundle.link.no, bundle.link.hash, bundle.data)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(thread, database.execute, "INSERT INTO bundles VALUES (?, ?, ?)", row)

    return commit


def _bare(fd: int, thread: ThreadPoolExecutor) -> Commit:
    os.posix_fallocate(fd, 0, 64 << 20)
    offset = 0

    def write(data: bytes, at: int) -> None:
        os.pwrite(fd, data, at)
        os.fdatasync(fd)

    async def commit(bundle: SealedBundle) -> None:
        nonlocal offset
        await asyncio.get_running_loop().run_in_executor(thread, write, bundle.data, offset)
        offset += len(bundle.data)

    return commit
