import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import OutboxDamagedError, OutboxError
from gateway.model import Cursor, Link, Receipt, SealedBundle
from gateway.outbox.files import Files
from gateway.outbox.framing import (
    MAX_BUNDLE_BYTES,
    MAX_TRAILER_BYTES,
    Frame,
    FrameKind,
    Snapshot,
    StoreState,
    Trailer,
    encode_trailer,
    scan,
)
from gateway.outbox.outbox import Outbox
from gateway.outbox.recovery import Memory, recover
from gateway.outbox.segment import Segment, allocate

FILES = Files()
Seal = Callable[..., SealedBundle]
Reopen = Callable[..., Outbox]


def numbers(outbox: Outbox) -> list[int]:
    return [stored.link.no for stored in outbox.unreceipted(-1, 10_000)]


def spoil(path: Path, place: int, kind: FrameKind = FrameKind.BUNDLE) -> None:
    """Change one byte in the middle of the frame that is number `place` of its kind."""
    data = bytearray(path.read_bytes())
    frames = [found for found in scan(bytes(data)) if isinstance(found, Frame) and found.kind == kind]
    data[(frames[place].offset + frames[place].end) // 2] ^= 0xFF
    path.write_bytes(data)


async def write(outbox: Outbox, bundles: list[SealedBundle]) -> Link:
    for bundle in bundles:
        outbox.append(bundle)
    await outbox.sync()
    return bundles[-1].link


async def test_a_damaged_frame_costs_itself_alone_and_is_told(reopen: Reopen, seal: Seal, tmp_path: Path) -> None:
    await write(reopen(), [seal() for _ in range(5)])
    outbox = reopen(lambda: spoil(tmp_path / f"{1:012}.seg", 2))
    assert numbers(outbox) == [0, 1, 3, 4]
    assert outbox.stats().missing == 1


async def test_a_bundle_that_opens_epochs_survives_damage_to_either_copy(
    reopen: Reopen, seal: Seal, tmp_path: Path
) -> None:
    bundles = [seal(opens_epoch=True), seal(opens_epoch=True), seal()]
    await write(reopen(), bundles)

    def damage() -> None:
        spoil(tmp_path / f"{1:012}.seg", 0)
        spoil(tmp_path / f"{1:012}.seg", 2)

    outbox = reopen(damage)
    assert [outbox.load(stored) for stored in outbox.unreceipted(-1, 10)] == [bundle.data for bundle in bundles]
    assert outbox.stats().missing == 0


async def test_one_bad_block_costs_neither_a_bundle_that_opens_epochs_nor_the_snapshot(
    outbox: Outbox, seal: Seal, tmp_path: Path
) -> None:
    await write(outbox, [seal(size, opens_epoch=True) for size in (40, 300, 5000, 300)])
    whole = (tmp_path / f"{1:012}.seg").read_bytes().rstrip(b"\0")
    spoilt = tmp_path / f"{9:012}.seg"
    for block in range(0, len(whole), 4096):
        spoilt.write_bytes(whole[:block] + os.urandom(4096) + whole[block + 4096 :])
        segment, _ = recover(FILES, spoilt, Memory("gw"), None)
        assert (segment.count, segment.missing, segment.suspect) == (4, 0, False)


async def test_a_write_torn_in_a_second_copy_or_before_it_costs_nothing_that_was_whole(
    outbox: Outbox, seal: Seal, tmp_path: Path
) -> None:
    await write(outbox, [seal(), seal(opens_epoch=True)])
    whole = (tmp_path / f"{1:012}.seg").read_bytes()
    *_, first, second = (found for found in scan(whole) if isinstance(found, Frame))
    torn = tmp_path / f"{9:012}.seg"
    for end in (first.end, first.end + 1, second.offset, second.offset + 1, second.offset + 100, second.end - 1):
        torn.write_bytes(whole[:end] + bytes(len(whole) - end))
        segment, _ = recover(FILES, torn, Memory("gw"), None)
        assert (segment.count, segment.missing, segment.suspect) == (2, 0, False)
        assert torn.read_bytes().rstrip(b"\0") == whole[:end].rstrip(b"\0")


async def test_damage_after_the_start_is_noticed_where_it_is_read(reopen: Reopen, seal: Seal, tmp_path: Path) -> None:
    bundles = [seal(opens_epoch=True), seal(), seal()]
    outbox = reopen()
    await write(outbox, bundles)
    opener, spoilt, whole = outbox.unreceipted(-1, 10)
    spoil(tmp_path / f"{1:012}.seg", 0)
    spoil(tmp_path / f"{1:012}.seg", 1)
    assert outbox.load(opener) == bundles[0].data
    with pytest.raises(OutboxDamagedError):
        outbox.load(spoilt)
    assert outbox.load(whole) == bundles[2].data
    assert numbers(outbox) == [0, 2]


async def test_each_bundle_found_unreadable_is_told_once_on_top_of_those_lost_before_the_start(
    reopen: Reopen, seal: Seal, tmp_path: Path
) -> None:
    first = tmp_path / f"{1:012}.seg"
    await write(reopen(), [seal() for _ in range(6)])
    outbox = reopen(lambda: spoil(first, 2))
    told: list[int] = []
    outbox.on_damage = told.append
    stored = outbox.unreceipted(-1, 10)
    assert (told, outbox.stats().missing) == ([], 1)
    spoil(first, 0)
    with pytest.raises(OutboxDamagedError):
        outbox.load(stored[0])
    assert told == [2]
    spoil(first, 0)
    assert numbers(outbox) == numbers(outbox) == [3, 4, 5]
    assert told == [2, 3]
    assert outbox.stats().missing == 3


async def test_damage_that_a_receipt_comes_upon_is_told(
    outbox: Outbox, seal: Seal, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    told: list[int] = []
    outbox.on_damage = told.append
    link = await write(outbox, [seal(), seal()])
    spoil(tmp_path / f"{1:012}.seg", 1)
    outbox.apply(receipt(link))
    assert told == [1]


async def test_a_segment_with_something_unreadable_is_never_deleted_by_a_receipt(
    reopen: Reopen, seal: Seal, receipt: Callable[..., Receipt], tmp_path: Path
) -> None:
    await write(reopen(), [seal() for _ in range(5)])
    outbox = reopen(lambda: spoil(tmp_path / f"{1:012}.seg", 2))
    for counter in range(12):
        link = await write(outbox, [seal(size=60_000) for _ in range(10)])
        await outbox.roll()
        outbox.apply(receipt(link, counter=counter))
    await outbox.sync()
    names = sorted(path.stem for path in tmp_path.glob("*.seg"))
    assert names[0] == f"{1:012}"
    assert f"{2:012}" not in names
    assert numbers(outbox) == []


async def test_a_torn_end_is_passed_over_and_left_as_it_is(reopen: Reopen, seal: Seal, tmp_path: Path) -> None:
    first = tmp_path / f"{1:012}.seg"
    link = await write(reopen(), [seal() for _ in range(3)])

    def tear() -> None:
        data = first.read_bytes()
        frame = [found for found in scan(data) if isinstance(found, Frame)][-1]
        first.write_bytes(data + data[frame.offset : frame.offset + 100] + bytes(4000))

    outbox = reopen(tear)
    assert (numbers(outbox), outbox.head(), outbox.stats().missing) == ([0, 1, 2], link, 0)
    size = first.stat().st_size
    assert first.read_bytes()[-100:].strip(b"\0")
    assert numbers(reopen()) == [0, 1, 2]
    assert first.stat().st_size == size


async def test_a_lost_end_of_an_earlier_segment_shows_in_the_next(reopen: Reopen, seal: Seal, tmp_path: Path) -> None:
    outbox = reopen()
    await write(outbox, [seal() for _ in range(3)])
    await outbox.roll()
    await write(outbox, [seal() for _ in range(3)])

    def damage() -> None:
        for _ in range(2):
            spoil(tmp_path / f"{1:012}.seg", -1)

    outbox = reopen(damage)
    assert numbers(outbox) == [0, 3, 4, 5]
    assert outbox.stats().missing == 2


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_damaged_snapshot_costs_no_bundle(reopen: Reopen, seal: Seal, tmp_path: Path, copies: int) -> None:
    link = await write(reopen(), [seal() for _ in range(3)])

    def damage() -> None:
        for _ in range(copies):
            spoil(tmp_path / f"{1:012}.seg", 0, FrameKind.SNAPSHOT)

    outbox = reopen(damage)
    assert (numbers(outbox), outbox.head(), outbox.stats().missing) == ([0, 1, 2], link, 0)


async def test_without_its_snapshot_a_segment_does_not_call_missing_what_was_let_go_before_it(
    reopen: Reopen, seal: Seal, tmp_path: Path
) -> None:
    outbox = reopen()
    await write(outbox, [seal() for _ in range(3)])
    await outbox.roll()
    await write(outbox, [seal() for _ in range(3)])

    def damage() -> None:
        (tmp_path / f"{1:012}.seg").unlink()
        for _ in range(2):
            spoil(tmp_path / f"{2:012}.seg", 0, FrameKind.SNAPSHOT)

    outbox = reopen(damage)
    assert (numbers(outbox), outbox.stats().missing) == ([3, 4, 5], 0)


def test_the_largest_frame_with_its_copy_takes_no_more_room_than_fits_asks_for(tmp_path: Path, seal: Seal) -> None:
    allocate(FILES, tmp_path / "spare", 1 << 20)
    snapshot = Snapshot("gw", None, (), StoreState())
    segment = Segment.create(FILES, tmp_path / "spare", tmp_path / f"{1:012}.seg", 1 << 20, snapshot)
    bundle = seal(size=MAX_BUNDLE_BYTES, opens_epoch=True)
    rest = len(encode_trailer(Trailer(bundle.link, bundle.spans, (Cursor("d" * 65_536, "", 0),)))) - 65_536
    while segment.fits():
        segment.size -= 1
    segment.size += 1
    segment.append(bundle, [Cursor("d" * (MAX_TRAILER_BYTES - rest), "", 0)])
    assert segment.end == segment.size
    segment.finish()


def test_a_segment_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / f"{1:012}.seg"
    path.write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        Segment.create(FILES, tmp_path / "spare", path, 1 << 20, Snapshot("gw", None, (), StoreState()))
    assert path.read_bytes() == b"kept"


async def test_a_block_that_the_medium_refuses_costs_the_frames_in_it(
    reopen: Reopen, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(reopen(), [seal(size=3000) for _ in range(10)])
    pread = os.pread

    def refuse(fd: int, size: int, offset: int) -> bytes:
        if offset < 20_000 < offset + size:
            raise OSError(errno.EIO, "I/O error")
        return pread(fd, size, offset)

    outbox = reopen(lambda: monkeypatch.setattr(os, "pread", refuse))
    held = numbers(outbox)
    assert len(held) >= 7
    assert {0, 1, 7, 8, 9} <= set(held)
    assert outbox.stats().missing == 10 - len(held)


async def test_a_segment_of_another_gateway_is_refused_by_name_and_left_as_it_is(
    reopen: Reopen, seal: Seal, tmp_path: Path
) -> None:
    path = tmp_path / f"{1:012}.seg"
    link = await write(reopen(gateway="gw-0007"), [seal()])
    whole = path.read_bytes()
    with pytest.raises(OutboxError, match=rf"{path.name}.*gw-0007.*gw-0008"):
        reopen(gateway="gw-0008")
    assert path.read_bytes().rstrip(b"\0") == whole.rstrip(b"\0")
    assert reopen(gateway="gw-0007").head() == link


async def test_files_that_look_odd_are_left_alone(reopen: Reopen, seal: Seal, tmp_path: Path) -> None:
    await write(reopen(), [seal()])
    odd = {"notes.txt": b"x", "000000000000.seg": b"", "000000000002.seg": os.urandom(9000) + b".", "old.seg": b"y"}

    def leave() -> None:
        for name, content in odd.items():
            (tmp_path / name).write_bytes(content)

    assert numbers(reopen(leave)) == [0]
    assert numbers(reopen()) == [0]
    assert {name: (tmp_path / name).read_bytes() for name in odd} == odd


async def test_a_segment_that_was_never_whole_is_cleared_away(reopen: Reopen, seal: Seal, tmp_path: Path) -> None:
    await write(reopen(), [seal()])
    unfinished = tmp_path / f"{9:012}.tmp"
    assert numbers(reopen(lambda: unfinished.write_bytes(bytes(1000)))) == [0]
    assert not unfinished.exists()


@given(st.binary(max_size=300), st.integers(0, 300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_a_segment_of_which_at_most_zeros_are_cut(tmp_path: Path, data: bytes, zeros: int) -> None:
    path = tmp_path / f"{7:012}.seg"
    path.write_bytes(data + bytes(zeros))
    segment, _ = recover(FILES, path, Memory("gw"), None)
    assert (segment.count, segment.suspect) == (0, True)
    assert path.read_bytes().rstrip(b"\0") == data.rstrip(b"\0")
