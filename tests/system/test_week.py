"""Wearables that go out of range, reset, wrap, lie and change clocks for a week: the store equals their ledgers."""

import asyncio
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ble import bluetooth
from gateway.lab.peripheral import Peripheral

from .virtual_time import VirtualLoop
from .week import Entry, World, measured, stored

SEED = 1
RECEIVED_MS = 2_000
"""How long a live value may take where no uncertainty is stated."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A week, lived through. It syncs 4,000 times, which memory does faster; what disks do is shown elsewhere."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made there
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))

    async def live() -> World:
        world = World(directory, SEED)
        await world.run()
        return world

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        patch.setattr(Peripheral, "ADVERTISING_INTERVAL_MS", 10_000.0)
        patch.setattr(bluetooth, "_RESCAN_S", 600.0)  # with the next line: half of all work would be looking around
        patch.setattr(bluetooth, "_LOOK_S", 60.0)
        yield runner.run(live())
    shutil.rmtree(directory)


def test_the_week_was_a_bad_one(world: World) -> None:
    assert world.errors["link"] > 100
    assert world.errors["procedure"] > 10
    assert len(world.killed_ms) > 5
    assert sum(entry.kept for entry in stored(world.site)) > 200


def test_every_record_is_stored_once_and_nothing_else(world: World) -> None:
    ledger = Counter(entry.identity for entry in measured(world.site) if not world.in_air(entry))
    heard = Counter(entry.identity for entry in measured(world.site))
    store = Counter(entry.identity for entry in stored(world.site))
    assert len(store) > 2_000
    assert not ledger - store
    assert not store - heard


def test_times_are_right_within_their_stated_uncertainty(world: World) -> None:
    true: defaultdict[tuple, list[Entry]] = defaultdict(list)
    for entry in measured(world.site):
        true[entry.identity].append(entry)
    for entry in stored(world.site):
        off_ms = min(abs(entry.time_ms - each.time_ms) for each in true[entry.identity])
        assert off_ms <= (RECEIVED_MS if entry.uncertainty_ms is None else entry.uncertainty_ms), entry
