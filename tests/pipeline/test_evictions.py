"""What has to go before it is receipted is told first, in signed records, so that a receiver names every hole."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.envelope.keys import VerifyKey
from gateway.model import Event, Extra, Hole, Lane, Reading, Receipt, ReceiptRange, StoreId
from gateway.outbox.framing import Frame, FrameKind, scan
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline
from gateway.receiver.audit import audit
from gateway.receiver.intake import Intake
from gateway.receiver.judging import judging
from gateway.receiver.plan import Message
from gateway.receiver.sqlite import SqliteStore
from gateway.receiver.sqlite import reading as reading_store

from .conftest import GATEWAY, KEY, NOW_MS, SIGNER, STREAM, alarm, contents, events, opened, reading

Build = Callable[[Outbox], Pipeline]

SEGMENT_BYTES = 1 << 20


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    """The outbox of the next process."""
    held: list[Outbox] = []

    def open_again(
        meanwhile: Callable[[], object] = lambda: None,
        *,
        capacity_bytes: int = 6 * SEGMENT_BYTES,
        reserve_bytes: int = 0,
    ) -> Outbox:
        if held:
            held.pop().close()
        meanwhile()
        held.append(
            Outbox.open(
                tmp_path / "outbox",
                gateway=GATEWAY,
                segment_bytes=SEGMENT_BYTES,
                capacity_bytes=capacity_bytes,
                reserve_bytes=reserve_bytes,
            )
        )
        return held[0]

    yield open_again
    for outbox in held:
        outbox.close()


async def fill(pipeline: Pipeline, first: int, mebibytes: int) -> int:
    """Hand in numbered readings that take about so much room; returns the next number."""
    for number in range(first, first + mebibytes * 1024, 128):
        pipeline.submit(STREAM, [large(each) for each in range(number, number + 128)])
        await pipeline.flush()
    return first + mebibytes * 1024


def large(number: int) -> Reading:
    """A reading of a kibibyte."""
    few = reading(number)
    return replace(few, extras=(*few.extras, (Extra.SESSION, "s" * 1000 + str(number))))


def holes(outbox: Outbox) -> list[Hole]:
    """What the durable bundles tell of others."""
    return [_hole(event) for event in events(outbox) if event.code == "eviction"]


def _hole(event: Event) -> Hole:
    chain, first, last, digest, cause, *_ = event.details
    return Hole(chain, first, last, digest, cause)


def told_of(outbox: Outbox, stream: bytes) -> int:
    """How many records of a stream the evictions count."""
    total = 0
    for event in events(outbox):
        if event.code == "eviction":
            rest = event.details[5:]
            total += sum(rest[at + 2] for at in range(0, len(rest), 5) if rest[at] == stream)
    return total


def received(outbox: Outbox, directory: Path) -> dict[str, Any]:
    """What a receiver knows that gets everything which is still held, in any order, and what an audit says of it."""
    registry = {SIGNER.kid: (GATEWAY, VerifyKey(SIGNER.alg, SIGNER.public))}
    with closing(SqliteStore.open(directory)) as store:
        intake = Intake(
            store=store,
            registry=registry,
            recipient_keys={KEY.kid: KEY},
            signer=SIGNER,
            parked_limit=10_000,
            parked_per_gateway=10_000,
        )
        messages = [
            Message(GATEWAY, outbox.load(stored)) for lane in Lane for stored in outbox.unreceipted(-1, 10_000, lane)
        ]
        random.Random(3).shuffle(messages)
        intake.take(messages, now_ms=NOW_MS)
        while ready := store.ready(after=-1, limit=1000):
            intake.take([message for _, message in ready], now_ms=NOW_MS)
        summary = store.summary()
    with reading_store(directory) as archive, judging(registry, 1) as judge:
        report = audit(archive, judge, stream=None, on_progress=lambda *_: None)
    return {**summary, "verdict": report["verdict"]}


async def test_a_full_outbox_lets_the_oldest_go_and_every_record_is_held_or_told(
    reopen: Callable[..., Outbox], build: Build, tmp_path: Path
) -> None:
    outbox = reopen()
    pipeline = build(outbox)
    submitted = await fill(pipeline, 0, 12)
    numbers = contents(outbox, Lane.DATA)[STREAM]
    assert numbers == list(range(submitted - len(numbers), submitted))
    assert 0 < told_of(outbox, STREAM) == submitted - len(numbers)
    assert {hole.cause for hole in holes(outbox)} == {"capacity"}
    taken = sum(path.stat().st_blocks * 512 for path in (tmp_path / "outbox").rglob("*") if path.is_file())
    assert taken <= 6 * SEGMENT_BYTES + 64_000
    known = received(outbox, tmp_path / "receiver")
    assert known["verdict"] == "clean"
    summary = known["gateways"][GATEWAY]
    assert (summary["missing_bundles"], summary["forks"]) == (0, 0)


async def test_what_a_hole_was_told_in_may_go_too_and_then_it_is_told_again(
    reopen: Callable[..., Outbox], build: Build, tmp_path: Path
) -> None:
    submitted = 0
    for _ in range(4):
        outbox = reopen()
        submitted = await fill(build(outbox), submitted, 8)
    numbers = contents(outbox, Lane.DATA)[STREAM]
    assert told_of(outbox, STREAM) == submitted - len(numbers)
    known = received(outbox, tmp_path / "receiver")
    assert known["verdict"] == "clean"
    summary = known["gateways"][GATEWAY]
    assert (summary["missing_bundles"], summary["forks"]) == (0, 0)


async def test_receipted_segments_go_first_and_nothing_is_told_of_them(
    reopen: Callable[..., Outbox], build: Build
) -> None:
    outbox = reopen()
    pipeline = build(outbox)
    submitted = 0
    for counter in range(8):
        submitted = await fill(pipeline, submitted, 2)
        ranges = tuple(
            ReceiptRange(stored.link.chain, stored.link.no, stored.link.no, stored.link.hash)
            for stored in outbox.unreceipted(-1, 10_000)
        )
        outbox.apply(Receipt(GATEWAY, StoreId(b"store", 1), counter, ranges, (), NOW_MS))
    assert holes(outbox) == []


async def test_urgent_bundles_go_last(reopen: Callable[..., Outbox], build: Build) -> None:
    outbox = reopen()
    pipeline = build(outbox)
    pipeline.submit(STREAM, [alarm(7)])
    await fill(pipeline, 0, 12)
    assert contents(outbox, Lane.URGENT)[STREAM] == [7]
    head = outbox.head(Lane.URGENT)
    assert head is not None
    assert head.chain not in {hole.chain for hole in holes(outbox)}


async def test_the_hole_is_told_durably_before_anything_is_deleted(
    reopen: Callable[..., Outbox], build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen()
    pipeline = build(outbox)
    told_at_deletion: list[int] = []
    unlink = Path.unlink

    def note(path: Path, *arguments: object) -> None:
        data = b"".join(each.read_bytes() for each in sorted(path.parent.glob("*.seg")) if each != path)
        told_at_deletion.append(data.count(b"\x68capacity"))
        unlink(path, *arguments)

    monkeypatch.setattr(Path, "unlink", note)
    await fill(pipeline, 0, 12)
    await outbox.sync()
    assert told_at_deletion
    assert all(told_at_deletion)


async def test_a_reserve_of_the_disk_is_left_free_and_what_goes_for_it_is_told(
    reopen: Callable[..., Outbox], build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen(capacity_bytes=64 << 20, reserve_bytes=10 << 20)
    free_bytes = 14 << 20
    monkeypatch.setattr(outbox._files, "free_bytes", lambda _: free_bytes - outbox._room.held_bytes)
    submitted = await fill(build(outbox), 0, 12)
    assert outbox.stats().disk_bytes <= 5 << 20
    assert {hole.cause for hole in holes(outbox)} == {"disk"}
    assert told_of(outbox, STREAM) == submitted - len(contents(outbox, Lane.DATA)[STREAM])


async def test_a_capacity_that_was_lowered_is_kept_after_the_next_start(
    reopen: Callable[..., Outbox], build: Build
) -> None:
    submitted = await fill(build(reopen(capacity_bytes=16 << 20)), 0, 12)
    outbox = reopen(capacity_bytes=4 << 20)
    submitted = await fill(build(outbox), submitted, 1)
    assert outbox.stats().disk_bytes <= 4 << 20
    assert told_of(outbox, STREAM) == submitted - len(contents(outbox, Lane.DATA)[STREAM])


async def test_a_damaged_frame_is_told_as_a_hole_and_its_segment_is_kept_for_a_person(
    reopen: Callable[..., Outbox], build: Build, tmp_path: Path
) -> None:
    outbox = reopen()
    pipeline = build(outbox)
    for number in range(5):
        pipeline.submit(STREAM, [reading(number)])
        await pipeline.flush()
    lost = outbox.unreceipted(-1, 10)[2].link
    path = tmp_path / "outbox" / f"{1:012}.seg"

    def damage() -> None:
        data = bytearray(path.read_bytes())
        frames = [found for found in scan(bytes(data)) if isinstance(found, Frame) and found.kind == FrameKind.BUNDLE]
        data[frames[3].offset + 60] ^= 1  # the first is there twice
        path.write_bytes(data)

    outbox = reopen(damage)
    assert outbox.stats().missing == 1
    await build(outbox).flush()
    assert contents(outbox, Lane.DATA)[STREAM] == [0, 1, 3, 4]
    assert holes(outbox) == [Hole(lost.chain, lost.no, lost.no, lost.hash, "damaged")]
    assert not path.exists()
    assert path.with_suffix(".bad").exists()
    known = received(outbox, tmp_path / "receiver")
    assert known["verdict"] == "clean"
    summary = known["gateways"][GATEWAY]
    assert (summary["missing_bundles"], summary["forks"]) == (0, 0)
    # A person may look at it; the next start knows that it has been told.
    outbox = reopen()
    await build(outbox).flush()
    assert len(holes(outbox)) == 1
    assert contents(outbox, Lane.DATA)[STREAM] == [0, 1, 3, 4]


async def test_an_image_of_the_card_that_is_put_back_is_a_fork_that_the_receiver_sees_and_nothing_is_lost(
    reopen: Callable[..., Outbox], build: Build, tmp_path: Path
) -> None:
    outbox = reopen()
    pipeline = build(outbox)
    pipeline.submit(STREAM, [reading(0), alarm(1)])
    await pipeline.flush()
    image = {path: path.read_bytes() for path in (tmp_path / "outbox").rglob("*.seg")}
    pipeline.submit(STREAM, [reading(2), alarm(3)])
    await pipeline.flush()
    assert received(outbox, tmp_path / "receiver")["gateways"][GATEWAY]["forks"] == 0

    def put_back() -> None:
        for path in (tmp_path / "outbox").rglob("*.seg"):
            path.write_bytes(image[path]) if path in image else path.unlink()

    outbox = reopen(put_back)
    pipeline = build(outbox)
    pipeline.submit(STREAM, [reading(4), alarm(5)])
    await pipeline.flush()
    summary = received(outbox, tmp_path / "receiver")["gateways"][GATEWAY]
    assert summary["forks"] == 2
    assert summary["streams"][STREAM.hex()]["readings"] == 6
    assert {stream for stream, _ in opened(outbox)} >= {STREAM}
