"""Two lanes: each has its own segments, chain and positions; one book, one capacity, one lock."""

from collections.abc import Callable
from pathlib import Path

from gateway.model import Lane, Link, Receipt, SealedBundle
from gateway.outbox.outbox import Outbox, list_bundles

Seal = Callable[..., SealedBundle]
NewChain = Callable[[], Seal]


async def write(outbox: Outbox, lane: Lane, bundle: SealedBundle) -> Link:
    if not outbox.fits(lane):
        await outbox.roll(lane)
    outbox.append(bundle, lane=lane)
    await outbox.sync(lane)
    return bundle.link


def held(outbox: Outbox, lane: Lane) -> list[Link]:
    return [stored.link for stored in outbox.unreceipted(-1, 1000, lane)]


async def test_what_is_written_to_a_lane_comes_out_of_it_alone_also_after_a_restart(
    reopen: Callable[..., Outbox], new_chain: NewChain
) -> None:
    outbox = reopen()
    data, urgent = new_chain(), new_chain()
    written = {Lane.DATA: list[Link](), Lane.URGENT: list[Link]()}
    for _ in range(3):
        written[Lane.DATA].append(await write(outbox, Lane.DATA, data()))
        written[Lane.URGENT].append(await write(outbox, Lane.URGENT, urgent()))
    for each in (outbox, reopen()):
        assert {lane: held(each, lane) for lane in Lane} == written
        assert {lane: each.head(lane) for lane in Lane} == {lane: links[-1] for lane, links in written.items()}


async def test_no_two_lanes_share_a_position_and_each_bundle_loads_from_its_own(
    outbox: Outbox, new_chain: NewChain
) -> None:
    bundles = {lane: new_chain()() for lane in Lane}
    for lane, bundle in bundles.items():
        await write(outbox, lane, bundle)
    stored = [outbox.unreceipted(-1, 1, lane)[0] for lane in Lane]
    assert len({each.position for each in stored}) == len(Lane)
    assert [each.position for each in stored] == [outbox.newest(lane) for lane in Lane]
    assert {each.lane: outbox.load(each) for each in stored} == {lane: each.data for lane, each in bundles.items()}


async def test_the_urgent_lane_takes_no_room_before_its_first_record(outbox: Outbox, tmp_path: Path) -> None:
    assert outbox.head(Lane.URGENT) is None
    assert not outbox.fits(Lane.URGENT)
    assert not list((tmp_path / "urgent").iterdir())


async def test_a_receipt_covers_either_lane(
    outbox: Outbox, new_chain: NewChain, receipt: Callable[..., Receipt]
) -> None:
    for lane in Lane:
        link = await write(outbox, lane, new_chain()())
        assert outbox.apply(receipt(link)).bundles == 1
    assert outbox.stats().bundles == 0


async def test_rolling_one_lane_leaves_the_other_where_it_is(outbox: Outbox, new_chain: NewChain) -> None:
    data = new_chain()
    await write(outbox, Lane.DATA, data())
    outbox.append(data())
    await write(outbox, Lane.URGENT, new_chain()())
    await outbox.roll(Lane.URGENT)
    assert len(held(outbox, Lane.DATA)) == 1
    await outbox.sync()
    assert len(held(outbox, Lane.DATA)) == 2


async def test_room_is_made_by_receipted_data_before_receipted_urgent_bundles(
    reopen: Callable[..., Outbox], new_chain: NewChain, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    outbox = reopen(capacity_bytes=5 << 20)
    urgent, data = new_chain(), new_chain()
    for lane, seal in ((Lane.URGENT, urgent), (Lane.DATA, data)):
        for _ in range(16):
            link = await write(outbox, lane, seal(size=60_000))
        await outbox.roll(lane)
        outbox.apply(receipt(link))
    await outbox.roll()
    assert await outbox.tale() is None
    assert not (tmp_path / f"{1:012}.seg").exists()
    assert (tmp_path / "urgent" / f"{1:012}.seg").exists()


async def test_a_closed_outbox_lists_both_lanes(
    reopen: Callable[..., Outbox], new_chain: NewChain, tmp_path: Path
) -> None:
    outbox = reopen()
    links = {await write(outbox, lane, new_chain()()) for lane in Lane}
    reopen()
    assert {link for link, _ in list_bundles(tmp_path)} == links
