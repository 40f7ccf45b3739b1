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

from gateway.errors import OutboxDamagedError, OutboxError, OutboxFullError, OutboxLockedError, ReceiptError
from gateway.model import Cursor, Lane, Link, Receipt, SealedBundle, StoreId
from gateway.outbox.framing import MAX_BUNDLE_BYTES
from gateway.outbox.outbox import Outbox, list_bundles
from gateway.outbox.receipted import Receipted

Seal = Callable[..., SealedBundle]
NewChain = Callable[[], Seal]

CGM = "AA:BB:CC:DD:EE:FF"


def numbers(outbox: Outbox) -> list[int]:
    return [stored.link.no for stored in outbox.unreceipted(-1, 10_000)]


async def fill(outbox: Outbox, seal: Seal, segments: int, *, bundles: int = 4) -> list[Link]:
    """Append `bundles` to each of `segments` segments, and begin one more."""
    links = []
    for _ in range(segments):
        for _ in range(bundles):
            bundle = seal(size=60_000)
            links.append(bundle.link)
            outbox.append(bundle)
        await outbox.roll()
    return links


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
        async with asyncio.timeout(5):
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


async def test_a_receipt_takes_off_what_it_covers(outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]) -> None:
    links = await fill(outbox, seal, 1, bundles=10)
    assert outbox.apply(receipt(links[3], 2)).bundles == 2
    assert outbox.apply(receipt(links[8], 8)).bundles == 1
    assert numbers(outbox) == [0, 1, 4, 5, 6, 7, 9]
    assert outbox.apply(receipt(links[8])).bundles == 6
    assert outbox.apply(receipt(links[8])).bundles == 0
    assert numbers(outbox) == [9]


async def test_a_wrong_hash_is_ignored_and_told(outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]) -> None:
    links = await fill(outbox, seal, 1)
    for wrong in (replace(links[2], hash=b"\0" * 32), replace(links[2], no=77)):
        applied = outbox.apply(receipt(wrong))
        assert (applied.bundles, applied.mismatched) == (0, 1)
    assert numbers(outbox) == [0, 1, 2, 3]


async def test_a_range_that_ends_before_it_begins_is_ignored_and_told(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    links = await fill(outbox, seal, 1)
    assert outbox.apply(receipt(links[1], 2)).mismatched == 1
    assert numbers(outbox) == [0, 1, 2, 3]


async def test_a_chain_that_is_not_held_is_passed_over(outbox: Outbox, receipt: Callable[..., Receipt]) -> None:
    applied = outbox.apply(receipt(Link(b"?" * 16, 3, b"h" * 32)))
    assert (applied.bundles, applied.mismatched) == (0, 0)


async def test_receipts_survive_a_restart(
    reopen: Callable[..., Outbox], seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    outbox = reopen()
    links = await fill(outbox, seal, 2)
    outbox.apply(receipt(links[5], counter=9))
    outbox = reopen()
    assert numbers(outbox) == [6, 7]
    assert (outbox.store, outbox.receipt_counter) == (StoreId(b"store-a", 1), 9)
    with pytest.raises(ReceiptError):
        outbox.apply(receipt(links[7], store=StoreId(b"store-a", 0), counter=10))


async def test_which_store_speaks_is_on_the_disk_at_once(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    (link,) = await fill(outbox, seal, 1, bundles=1)
    for store in (StoreId(b"store-a", 1), StoreId(b"store-a", 2)):
        outbox.apply(receipt(link, store=store))
        await outbox.sync()
        book = Receipted.decode((tmp_path / "receipted").read_bytes())
        assert ([each.store for each in book.state.counting], list(book.holes(link.chain, 0, 0))) == ([store], [])


async def test_what_two_required_stores_do_not_both_have_stays(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    outbox.require(2)
    links = await fill(outbox, seal, 1)
    applied = outbox.apply(receipt(links[3], store=StoreId(b"store-a", 1)))
    assert (applied.bundles, applied.covered, numbers(outbox)) == (0, (), [0, 1, 2, 3])
    applied = outbox.apply(receipt(links[1], store=StoreId(b"store-b", 1)))
    assert [(each.first, each.last) for each in applied.covered] == [(0, 1)]
    assert (applied.bundles, numbers(outbox)) == (2, [2, 3])


async def test_a_lost_book_of_receipts_costs_redeliveries_and_the_store_is_still_known(
    reopen: Callable[..., Outbox], seal: Seal, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    outbox = reopen()
    links = await fill(outbox, seal, 1)
    outbox.apply(receipt(links[3], counter=9))
    await outbox.roll()
    outbox = reopen(lambda: (tmp_path / "receipted").write_bytes(b"odd"))
    assert (numbers(outbox), outbox.receipt_counter) == ([0, 1, 2, 3], 9)


async def test_a_restored_store_gets_everything_again_that_is_still_held(
    reopen: Callable[..., Outbox], seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    outbox = reopen()
    links = await fill(outbox, seal, 2)
    assert not outbox.apply(receipt(links[6], counter=4)).resend
    applied = outbox.apply(receipt(links[2], store=StoreId(b"store-a", 2), counter=0))
    assert (applied.resend, applied.bundles) == (True, 3)
    assert numbers(outbox) == [3, 4, 5, 6, 7]
    with pytest.raises(ReceiptError):
        outbox.apply(receipt(links[7], counter=5))
    assert numbers(reopen()) == [3, 4, 5, 6, 7]


async def test_receipted_segments_stay_up_to_half_the_capacity(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    for _ in range(12):
        links = await fill(outbox, seal, 1, bundles=10)
        outbox.apply(receipt(links[-1]))
    await outbox.sync()
    assert 3 << 20 < sum(path.stat().st_size for path in tmp_path.glob("*.seg")) - (1 << 20) <= 4 << 20
    assert numbers(outbox) == []
    restored = outbox.apply(receipt(links[-1], links[-1].no, store=StoreId(b"store-a", 2)))
    assert restored.resend
    assert numbers(outbox) == list(range(numbers(outbox)[0], 119))


async def test_only_whole_segments_go_and_one_unreceipted_bundle_keeps_its_own(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    links = await fill(outbox, seal, 10, bundles=10)
    outbox.apply(receipt(links[4]))
    outbox.apply(receipt(links[-1], 6))
    (kept,) = outbox.unreceipted(-1, 10)
    assert kept.link == links[5]
    assert len(outbox.load(kept)) == 60_000


async def test_a_bundle_let_go_meanwhile_is_a_declared_error(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt]
) -> None:
    links = await fill(outbox, seal, 10, bundles=10)
    oldest = outbox.unreceipted(-1, 1)[0]
    outbox.apply(receipt(links[-1]))
    with pytest.raises(OutboxDamagedError):
        outbox.load(oldest)
    assert outbox.stats().missing == 0


async def test_a_receipt_for_an_end_that_is_deleted_still_covers_what_is_left(
    outbox: Outbox, seal: Seal, new_chain: Callable[[], Seal], receipt: Callable[..., Receipt]
) -> None:
    links = await fill(outbox, seal, 10, bundles=10)
    outbox.apply(receipt(links[-1], 1))
    later = await fill(outbox, new_chain(), 9, bundles=10)
    outbox.apply(receipt(later[-1]))
    assert [stored.link for stored in outbox.unreceipted(-1, 10)] == [links[0]]
    assert outbox.apply(receipt(links[-1])).bundles == 1


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


async def test_the_book_forgets_chains_of_which_nothing_is_left(
    reopen: Callable[..., Outbox], new_chain: Callable[[], Seal], receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    outbox, ends = reopen(), list[Link]()
    for counter in range(12):
        ends.append((await fill(outbox, new_chain(), 1, bundles=10))[-1])
        outbox.apply(receipt(ends[-1], counter=counter))
    reopen()
    book = Receipted.decode((tmp_path / "receipted").read_bytes())
    assert book.hash_of(ends[-1].chain, ends[-1].no) == ends[-1].hash
    assert book.hash_of(ends[0].chain, ends[0].no) is None
