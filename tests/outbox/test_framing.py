import os
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MalformedError
from gateway.model import Cursor, Hole, Link, StoreId, StreamSpan
from gateway.outbox.framing import (
    HEADER_BYTES,
    Damage,
    Frame,
    FrameKind,
    Snapshot,
    StoreNote,
    StoreState,
    Trailer,
    decode_snapshot,
    decode_trailer,
    encode_frame,
    encode_snapshot,
    encode_trailer,
    encode_twice,
    scan,
)

numbers = st.integers(0, 2**53 - 1)
links = st.builds(Link, st.binary(min_size=16, max_size=16), numbers, st.binary(min_size=32, max_size=32))
cursors = st.lists(st.builds(Cursor, st.text(), st.text(), numbers), max_size=3).map(tuple)
spans = st.lists(
    st.builds(StreamSpan, st.binary(min_size=16, max_size=16), numbers, numbers, numbers, numbers), max_size=3
).map(tuple)
notes = st.lists(st.builds(StoreNote, st.builds(StoreId, st.binary(), numbers), numbers), max_size=3).map(tuple)
holes = st.builds(
    Hole, st.binary(min_size=16, max_size=16), numbers, numbers, st.binary(min_size=32, max_size=32), st.text(), spans
)
states = st.builds(StoreState, numbers, notes, notes)
contents = st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=30)), min_size=1, max_size=6)


def file_of(items: list[tuple[bytes, bytes]]) -> bytes:
    data = b""
    for bundle, trailer in items:
        data += encode_frame(FrameKind.BUNDLE, bundle, trailer, len(data))
    return data


def frames_of(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(found.bundle, found.trailer) for found in scan(data) if isinstance(found, Frame)]


@given(contents, st.integers(0, 100))
def test_what_was_framed_is_found_in_order_and_zeros_end_it(items: list[tuple[bytes, bytes]], zeros: int) -> None:
    assert frames_of(file_of(items) + bytes(zeros)) == items


@given(st.lists(st.binary(max_size=40) | st.just(b"\xf5iB\x01"), max_size=8).map(b"".join), st.integers(0, 2**32))
def test_any_bytes_are_frames_and_damage_and_zeros_between(data: bytes, start: int) -> None:
    at = start
    for found in scan(data, start):
        assert at <= found.offset < found.end
        assert not data[at - start : found.offset - start].strip(b"\0")
        at = found.end
    assert not data[at - start :].strip(b"\0")


@given(st.integers(0, 20_000), st.integers(0, 9000))
def test_two_copies_never_share_a_block_and_what_lies_between_is_no_damage(offset: int, size: int) -> None:
    first, second = scan(encode_twice(FrameKind.BUNDLE, os.urandom(size), b"", offset), offset)
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert first.bundle == second.bundle
    assert (first.end - 1) // 4096 + 1 < second.offset // 4096


@given(contents, st.data())
def test_a_changed_byte_costs_the_frame_it_is_in_and_no_other(
    items: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    whole = bytearray(file_of(items))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    ends = [found.end for found in scan(file_of(items)) if isinstance(found, Frame)]
    hit = next(index for index, end in enumerate(ends) if at < end)
    assert frames_of(bytes(whole)) == items[:hit] + items[hit + 1 :]


@given(contents, st.data())
def test_a_lost_block_costs_the_frames_it_touched(items: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    whole = file_of(items)
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, len(whole) - 1))
    spoilt = whole[:first] + bytes(last - first + 1) + whole[last + 1 :]
    frames = {found for found in scan(whole) if isinstance(found, Frame)}
    untouched = {frame for frame in frames if frame.end <= first or frame.offset > last}
    assert untouched <= {found for found in scan(spoilt) if isinstance(found, Frame)} <= frames


@given(contents, st.data())
def test_a_torn_write_leaves_every_frame_before_it(items: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    whole = file_of(items)
    cut = data.draw(st.integers(0, len(whole)))
    frames = {found for found in scan(whole) if isinstance(found, Frame)}
    before = {frame for frame in frames if frame.end <= cut}
    torn = whole[:cut] + bytes(len(whole) - cut)
    assert before <= {found for found in scan(torn) if isinstance(found, Frame)} <= frames


def test_a_frame_inside_a_damaged_one_is_not_believed() -> None:
    inner = encode_frame(FrameKind.BUNDLE, b"forged", b"", 0)
    outer = bytearray(encode_frame(FrameKind.BUNDLE, inner, b"", 0))
    outer[0] ^= 1
    assert list(scan(bytes(outer))) == [Damage(0, len(outer))]


def test_a_length_beyond_the_end_does_not_hide_what_follows() -> None:
    torn = encode_frame(FrameKind.BUNDLE, os.urandom(5000), b"", 0)[:HEADER_BYTES]
    whole = encode_frame(FrameKind.BUNDLE, b"next", b"", len(torn))
    assert frames_of(torn + whole) == [(b"next", b"")]


@given(links, spans, cursors, st.lists(holes, max_size=3).map(tuple))
def test_trailers_round_trip(
    link: Link, held: tuple[StreamSpan, ...], read: tuple[Cursor, ...], told: tuple[Hole, ...]
) -> None:
    trailer = Trailer(link, held, read, told)
    assert decode_trailer(encode_trailer(trailer)) == trailer


@given(st.text(), st.none() | links, cursors, states)
def test_snapshots_round_trip(gateway: str, head: Link | None, read: tuple[Cursor, ...], state: StoreState) -> None:
    snapshot = Snapshot(gateway, head, read, state)
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


cbor = st.recursive(
    st.none() | st.integers(0, 2) | st.binary(max_size=3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
).map(cbor2.dumps)


@given(st.binary(max_size=200) | cbor)
def test_any_bytes_are_a_trailer_or_malformed(data: bytes) -> None:
    for decode in (decode_trailer, decode_snapshot):
        with suppress(MalformedError):
            decode(data)


def test_items_of_a_later_version_are_ignored_and_another_version_is_not_guessed() -> None:
    link = [b"c" * 16, 0, b"h" * 32]
    assert decode_trailer(cbor2.dumps([1, link, [], [], [], "later"])).link == Link(*link)
    with pytest.raises(MalformedError):
        decode_trailer(cbor2.dumps([2, link, [], []]))
