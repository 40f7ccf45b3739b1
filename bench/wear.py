"""Bytes that reach the block device, by its own counter: the outbox on a loop-mounted ext4, and SQLite beside it.

Online, 10 readings/s at the default tick: bytes a commit, against the floor of one page of 4 KiB. Offline, 100
readings/s at a tick of 60 s (an hour of it at once): bytes a sealed byte. SQLite in WAL mode with `synchronous=FULL`
commits the same bundles at the same moments on a file system of the same kind. Needs root.
"""

import asyncio
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench import _rig
from bench._measure import spread
from bench._readings import reading
from gateway.config import GatewayConfig, load
from gateway.errors import ConfigError
from gateway.model import SealedBundle
from gateway.supervisor import Gateway

_PAGE_BYTES = 4096
_DEVICE_BYTES = 256 << 20
_SECTOR_BYTES = 512
_ONLINE_S = 40
_TURNS_PER_S = 10
_OFFLINE_TICKS = 60
_OFFLINE_READINGS = 6_000
_WEARABLES = 20


def run() -> dict[str, Any]:
    """Measure; root mounts the file systems."""
    if os.geteuid() != 0:
        raise ConfigError("only root may mount a file system: run `sudo python -m bench wear`")
    with _rig.place() as root, _mounted(root, "ours") as ours, _mounted(root, "sqlite") as theirs:
        online = asyncio.run(_measure(ours, theirs, _online))
        offline = asyncio.run(_measure(ours, theirs, _offline))
    results = {
        "online, device bytes a commit": spread([online.ours / online.commits], "B"),
        "online, SQLite, device bytes a commit": spread([online.sqlite / online.commits], "B"),
        "offline, device bytes a sealed byte": spread([offline.ours / offline.sealed], ""),
        "offline, SQLite, device bytes a sealed byte": spread([offline.sqlite / offline.sealed], ""),
    }
    ratios = {
        "online, bytes a commit / one page": online.ours / online.commits / _PAGE_BYTES,
        "online, SQLite / here": online.sqlite / online.ours,
        "offline, SQLite / here": offline.sqlite / offline.ours,
    }
    return {"results": results, "ratios": ratios}


class _Device:
    """A file system of its own, whose device counts what is written."""

    def __init__(self, path: Path, device: str) -> None:
        self.path = path
        self._counter = Path("/sys/block") / Path(device).name / "stat"

    def written(self) -> int:
        """Bytes so far, after everything has been written back."""
        subprocess.run(["sync", "--file-system", self.path], check=True)
        return int(self._counter.read_text().split()[6]) * _SECTOR_BYTES


@contextmanager
def _mounted(root: Path, name: str) -> Iterator[_Device]:
    image, path = root / f"{name}.img", root / name
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(_DEVICE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", image, path], check=True)
    try:
        mounts = Path("/proc/self/mounts").read_text()
        found = re.search(rf"^(/dev/loop\d+) {re.escape(str(path.absolute()))} ", mounts, re.MULTILINE)
        assert found
        yield _Device(path, found[1])
    finally:
        subprocess.run(["umount", path], check=True)


class _Outcome:
    """Counts of one run."""

    def __init__(self) -> None:
        self.commits = 0
        self.sealed = 0
        self.ours = 0
        self.sqlite = 0


class _Table:
    """What a plain outbox would be."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE IF NOT EXISTS bundles (no INTEGER PRIMARY KEY, data BLOB NOT NULL)")

    def commit(self, bundles: list[bytes]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO bundles (data) VALUES (?)", [(data,) for data in bundles])
        self._database.execute("COMMIT")

    def close(self) -> None:
        self._database.close()


async def _measure(ours: _Device, theirs: _Device, feed: Callable[[Gateway], Any]) -> _Outcome:
    outcome = _Outcome()
    site = _rig.lay_out(ours.path / feed.__name__, "")
    served = Gateway(load(site.gateway_config, GatewayConfig))
    table = _Table(theirs.path / f"{feed.__name__}.db")
    pending: list[bytes] = []

    def committed(_seconds: float) -> None:
        outcome.commits += 1
        outcome.sealed += sum(map(len, pending))
        table.commit(pending)
        pending.clear()

    append = served.outbox.append

    def noted(bundle: SealedBundle, *others: Any, **named: Any) -> None:  # noqa: ANN401 - passed through
        pending.append(bundle.data)
        append(bundle, *others, **named)

    setattr(served.outbox, "append", noted)  # noqa: B010 - looked at, not changed
    served.outbox.on_fsync = committed
    before = ours.written(), theirs.written()
    try:
        await feed(served)
    finally:
        table.close()
        served.outbox.close()
    outcome.ours, outcome.sqlite = ours.written() - before[0], theirs.written() - before[1]
    return outcome


async def _online(served: Gateway) -> None:
    """As while the uplink is up: the default tick."""
    served.uplink.online = True
    sealing = asyncio.create_task(served.pipeline.run())
    for turn in range(_ONLINE_S * _TURNS_PER_S):
        served.pipeline.submit(b"wearable %07d" % (turn % _WEARABLES), [reading(turn)])
        await asyncio.sleep(1 / _TURNS_PER_S)
    sealing.cancel()
    with suppress(asyncio.CancelledError):
        await sealing


async def _offline(served: Gateway) -> None:
    """What an hour's ticks of 60 s hold, one after the other."""
    for tick in range(_OFFLINE_TICKS):
        each = _OFFLINE_READINGS // _WEARABLES
        for wearable in range(_WEARABLES):
            numbers = range(tick * each, (tick + 1) * each)
            served.pipeline.submit(b"wearable %07d" % wearable, list(map(reading, numbers)))
        await served.pipeline.flush()
