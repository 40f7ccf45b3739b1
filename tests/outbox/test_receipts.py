"""What receipts let go, and what they must not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import OutboxDamagedError, ReceiptError
from gateway.model import Link, Receipt, StoreId
from gateway.outbox.outbox import Outbox
from gateway.outbox.receipted import Receipted
from tests.outbox.filling import Seal, fill, numbers


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
