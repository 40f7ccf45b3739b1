import asyncio
import gc
import multiprocessing
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gateway.errors import OutboxError, OutboxFullError, OutboxLockedError
from gateway.model import Cursor, Lane, Receipt
from gateway.outbox.files import Files
from gateway.outbox.framing import MAX_BUNDLE_BYTES
from gateway.outbox.outbox import Outbox, list_bundles
from tests.outbox.filling import Seal, fill, numbers

NewChain = Callable[[], Seal]


CGM = "AA:BB:CC:DD:EE:FF"


async def test_a_bundle_is_seen_once_it_is_synced_and_not_before(outbox: Outbox, seal: Seal) -> None:
    bundle = seal(size=500, records=7, time_ms=123_456)
    outbox.append(bundle)
    assert (outbox.unreceipted(-1, 10), outbox.head()) == ([], None)
    await outbox.sync()
    (stored,) = outbox.unreceipted(-1, 10)
    assert (stored.position, stored.link, stored.size, stored.count, stored.from_ms) == (
        0,
        bundle.link,
        500,
        7,
        123_456,
    )
    assert outbox.load(stored) == bundle.data
    assert outbox.head() == bundle.link


async def test_what_is_appended_while_a_sync_runs_waits_for_the_next(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fdatasync = os.fdatasync
    loop = asyncio.get_running_loop()

    def sync_slowly(fd: int) -> None:
        asyncio.run_coroutine_threadsafe(append_one(), loop).result()
        fdatasync(fd)

    async def append_one() -> None:
        outbox.append(seal())

    outbox.append(seal())
    monkeypatch.setattr(os, "fdatasync", sync_slowly)
    await outbox.sync()
    assert numbers(outbox) == [0]
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    await outbox.sync()
    assert numbers(outbox) == [0, 1]


async def test_one_fdatasync_serves_all_that_was_appended(outbox: Outbox, seal: Seal) -> None:
    durations: list[float] = []
    outbox.on_fsync = durations.append
    for _ in range(50):
        outbox.append(seal())
    await asyncio.gather(outbox.sync(), outbox.sync())
    assert numbers(outbox) == list(range(50))
    assert len(durations) == 1


async def test_a_cancelled_sync_still_makes_durable_what_it_took(outbox: Outbox, seal: Seal) -> None:
    outbox.append(seal())
    task = asyncio.create_task(outbox.sync())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    outbox.append(seal())
    await outbox.sync()
    assert numbers(outbox) == [0, 1]
    assert [outbox.load(stored) for stored in outbox.unreceipted(-1, 2)]


async def test_listing_goes_on_after_a_position_and_stops_at_its_limit(outbox: Outbox, seal: Seal) -> None:
    await fill(outbox, seal, 3)
    first = outbox.unreceipted(-1, 5)
    then = outbox.unreceipted(first[-1].position, 100)
    assert [stored.link.no for stored in first + then] == list(range(12))
    assert outbox.unreceipted(then[-1].position, 10) == []


async def test_waiting_ends_with_the_next_sync_of_any_lane(outbox: Outbox, seal: Seal, new_chain: NewChain) -> None:
    outbox.append(seal())
    await outbox.sync()
    await outbox.roll(Lane.URGENT)
    for lane, make in ((Lane.DATA, seal), (Lane.URGENT, new_chain())):
        waiting = asyncio.create_task(outbox.grown())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        outbox.append(make(), lane=lane)
        await outbox.sync(lane)
        async with asyncio.timeout(30):
            await waiting


async def test_chains_of_earlier_processes_stay_readable_in_order(
    reopen: Callable[..., Outbox], new_chain: Callable[[], Seal]
) -> None:
    written = []
    for _ in range(3):
        outbox, seal = reopen(), new_chain()
        assert outbox.head() == (written[-1].link if written else None)
        for no in range(3):
            written.append(seal(opens_epoch=no == 0))
            outbox.append(written[-1])
            await outbox.sync()
    outbox = reopen()
    stored = outbox.unreceipted(-1, 100)
    assert [each.link for each in stored] == [bundle.link for bundle in written]
    assert [outbox.load(each) for each in stored] == [bundle.data for bundle in written]
    assert [each.position for each in stored] == list(range(9))


async def test_cursors_and_head_outlive_the_segments_that_brought_them(
    reopen: Callable[..., Outbox], seal: Seal, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    outbox = reopen()
    cursor = Cursor(CGM, "2024-01-01T00:00:00", 5)
    outbox.append(seal(), [cursor])
    assert outbox.cursors == {}
    await outbox.sync()
    assert outbox.cursors == {CGM: cursor}
    outbox.append(seal(), [replace(cursor, sequence=6)])
    links = await fill(outbox, seal, 20)
    for _ in range(10):
        outbox.apply(receipt(links[-1]))
    outbox = reopen()
    assert len(list(tmp_path.glob("*.seg"))) < 20
    assert (outbox.head(), outbox.cursors) == (links[-1], {CGM: replace(cursor, sequence=6)})


async def test_each_process_begins_a_segment_and_one_never_used_is_not_kept(
    reopen: Callable[..., Outbox], seal: Seal, tmp_path: Path
) -> None:
    outbox = reopen()
    outbox.append(seal())
    await outbox.sync()
    for _ in range(10):
        assert numbers(reopen()) == [0]
    reopen()
    names = sorted(path.stem for path in tmp_path.glob("*.seg"))
    assert len(names) <= 3
    assert names[0] == f"{1:012}"


async def test_a_segment_is_preallocated_and_gives_back_what_it_did_not_use(
    outbox: Outbox, seal: Seal, tmp_path: Path
) -> None:
    first = next(tmp_path.glob("*.seg"))
    assert first.stat().st_size == 1 << 20
    assert first.stat().st_blocks * 512 >= 1 << 20
    outbox.append(seal(size=5000))
    await outbox.roll()
    await outbox.sync()
    assert 5000 < first.stat().st_size < 14_000


async def test_the_largest_bundle_fits_twice_where_fits_says_so(outbox: Outbox, seal: Seal) -> None:
    appended = 0
    while outbox.fits():
        outbox.append(seal(size=MAX_BUNDLE_BYTES, opens_epoch=True))
        appended += 1
    await outbox.roll()
    assert outbox.fits()
    assert len(numbers(outbox)) == appended > 4


async def test_what_does_not_fit_is_refused_and_leaves_the_segment_as_it_was(outbox: Outbox, seal: Seal) -> None:
    with pytest.raises(OutboxError):
        outbox.append(seal(size=MAX_BUNDLE_BYTES + 1))
    bundles = [seal(size=60_000) for _ in range(18)]
    for bundle in bundles[:17]:
        outbox.append(bundle)
    with pytest.raises(OutboxFullError, match="roll"):
        outbox.append(bundles[17])
    await outbox.sync()
    assert [stored.link for stored in outbox.unreceipted(-1, 100)] == [bundle.link for bundle in bundles[:17]]


def test_another_process_is_kept_out(reopen: Callable[..., Outbox], tmp_path: Path) -> None:
    reopen()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process, pytest.raises(OutboxLockedError):
        process.submit(
            partial(Outbox.open, tmp_path, gateway="gw", segment_bytes=1 << 20, capacity_bytes=8 << 20)
        ).result()


async def test_a_closed_outbox_lists_its_bundles(reopen: Callable[..., Outbox], seal: Seal, tmp_path: Path) -> None:
    outbox = reopen()
    bundles = [seal(opens_epoch=no == 0) for no in range(3)]
    for bundle in bundles:
        outbox.append(bundle)
    await outbox.sync()
    reopen()
    assert list_bundles(tmp_path) == [(bundle.link, bundle.spans) for bundle in bundles]


async def test_a_full_outbox_says_so_loses_nothing_and_goes_on_after_a_receipt(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    with pytest.raises(OutboxFullError, match="capacity_bytes"):
        await fill(outbox, seal, 20, bundles=10)
    with pytest.raises(OutboxFullError):
        await outbox.roll()
    stored = outbox.unreceipted(-1, 1000)
    assert len(stored) == stored[-1].link.no + 1 > 70
    outbox.apply(receipt(stored[-1].link))
    await outbox.roll()
    later = seal()
    outbox.append(later)
    await outbox.sync()
    assert numbers(outbox) == [later.link.no]


async def test_stats_tell_what_waits(outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]) -> None:
    empty = outbox.stats()
    assert (empty.bundles, empty.bytes, empty.oldest_ms, empty.missing) == (0, 0, None, 0)
    bundles = [seal(size=1000, time_ms=5000 + no) for no in range(3)]
    for bundle in bundles:
        outbox.append(bundle)
    await outbox.roll()
    outbox.apply(receipt(bundles[0].link))
    stats = outbox.stats()
    assert (stats.bundles, stats.oldest_ms, stats.segments) == (2, 5001, 2)
    assert 2000 < stats.bytes < 2400
    assert 1 << 20 < stats.disk_bytes < (1 << 20) + 13_000


async def test_the_room_left_is_that_of_a_disk_which_others_fill(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Files, "free_bytes", lambda *_: 1 << 40)
    assert outbox.stats().room_bytes == 6 << 20, "eight segments of 1 MiB but for two"
    monkeypatch.setattr(Files, "free_bytes", lambda *_: 3 << 20)
    stats = outbox.stats()
    assert stats.room_bytes == stats.disk_bytes + (3 << 20) - (2 << 20)
    outbox.append(seal(size=1000))
    await outbox.sync()
    assert stats.room_bytes - 1200 < outbox.stats().room_bytes < stats.room_bytes - 1000
    monkeypatch.setattr(Files, "free_bytes", lambda *_: 0)
    assert outbox.stats().room_bytes == 0


async def test_memory_stays_flat_with_a_long_backlog(reopen: Callable[..., Outbox], seal: Seal) -> None:
    async def append(outbox: Outbox, bundles: int) -> int:
        for _ in range(bundles):
            outbox.append(seal(size=1000))
        await outbox.sync()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    outbox = reopen(segment_bytes=4 << 20)
    await append(outbox, 100)
    tracemalloc.start()
    before_bytes = await append(outbox, 100)
    after_bytes = await append(outbox, 2000)
    tracemalloc.stop()
    assert after_bytes - before_bytes < 2000 * 30
