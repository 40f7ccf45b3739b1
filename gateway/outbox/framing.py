"""How bundles lie in a segment: frames, and a scan in which damage costs no more than what it hit. Sans-IO.

A frame, big-endian: magic (4 bytes), kind (1), bundle length (4), trailer length (4), CRC-32 of bundle and trailer (4),
CRC-32 of all this and of the frame's own offset in its file (4); then the bundle, then the trailer. The offset makes a
frame that was copied elsewhere, or that lies inside another's bytes, no frame. Zeros may lie between frames, and follow
the last.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import cbor2

from gateway.errors import MalformedError
from gateway.model import Cursor, Hole, Link, StoreId, StreamSpan

MAX_BUNDLE_BYTES = 65_536
MAX_TRAILER_BYTES = 131_072
"""Of a bundle's frame: more than a thousand streams with a cursor each. A snapshot may be longer."""
BLOCK_BYTES = 4096
"""What a medium loses at once."""

_MAGIC = b"\xf5iB\x01"
_FIELDS = struct.Struct(">4sBIII")
_CRC = struct.Struct(">I")
_OFFSET = struct.Struct(">Q")
HEADER_BYTES = _FIELDS.size + _CRC.size
MAX_FRAME_BYTES = HEADER_BYTES + MAX_BUNDLE_BYTES + MAX_TRAILER_BYTES
_VERSION = 1


class FrameKind(IntEnum):
    """What a frame carries; a reader leaves alone what it does not know."""

    BUNDLE = 0
    SNAPSHOT = 1
    RECEIPTED = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame at `offset`..`end` of its file."""

    offset: int
    end: int
    kind: int
    bundle: bytes
    trailer: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes `offset`..`end` of a file that are no frame."""

    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """What the gateway itself remembers of a bundle; never sent."""

    link: Link
    spans: tuple[StreamSpan, ...]
    cursors: tuple[Cursor, ...]
    told: tuple[Hole, ...] = ()
    """Holes that the bundle tells of: if it goes too before it is receipted, they are told again."""


@dataclass(frozen=True, slots=True)
class StoreNote:
    """A store and its newest receipt."""

    store: StoreId
    counter: int


@dataclass(frozen=True, slots=True)
class StoreState:
    """Whose receipts count, and whose no longer do; a state with more changes is the newer one."""

    changes: int = 0
    counting: tuple[StoreNote, ...] = ()
    former: tuple[StoreNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Whose the segment is, and what a restart needs of all that lies before it."""

    gateway: str
    head: Link | None
    cursors: tuple[Cursor, ...]
    state: StoreState


def encode_frame(kind: FrameKind, bundle: bytes, trailer: bytes, offset: int) -> bytes:
    """Return the frame that may lie at `offset` of its file, and only there."""
    checksum = zlib.crc32(trailer, zlib.crc32(bundle))
    fields = _FIELDS.pack(_MAGIC, kind, len(bundle), len(trailer), checksum)
    return b"".join((fields, _CRC.pack(_header_crc(fields, offset)), bundle, trailer))


def encode_twice(kind: FrameKind, bundle: bytes, trailer: bytes, offset: int) -> bytes:
    """Return a frame that may lie at `offset`, zeros, and its second copy, of which no bad block can cost both."""
    first = encode_frame(kind, bundle, trailer, offset)
    again = second_offset(offset + len(first))
    return first + bytes(again - offset - len(first)) + encode_frame(kind, bundle, trailer, again)


def second_offset(end: int) -> int:
    """Return where the second copy of a frame that ends at `end` begins: on a block, with a whole one between them."""
    return (-(-end // BLOCK_BYTES) + 1) * BLOCK_BYTES


def scan(data: bytes, start: int = 0) -> Iterator[Frame | Damage]:
    """Yield what lies in `data`, which begins at offset `start` of its file.

    Only zeros lie between frames and damage, and after the last of them. Damage at the very end is what an interrupted
    write leaves; a whole header tells where the next frame begins, else its magic is looked for.
    """
    view = memoryview(data)
    used = len(data.rstrip(b"\0"))
    at = 0
    while at < used:
        found = _header(data, at, start)
        if found is None:
            following = _find_header(data, at + 1, start) or used
            if data[at:following].strip(b"\0"):
                yield Damage(start + at, start + following)
            at = following
            continue
        kind, bundle_size, end, checksum = found
        body = at + HEADER_BYTES
        if zlib.crc32(view[body:end]) == checksum:
            middle = body + bundle_size
            yield Frame(start + at, start + end, kind, data[body:middle], data[middle:end])
        else:
            yield Damage(start + at, start + end)
        at = end


def _header_crc(fields: bytes, offset: int) -> int:
    return zlib.crc32(_OFFSET.pack(offset), zlib.crc32(fields))


def _header(data: bytes, at: int, start: int) -> tuple[int, int, int, int] | None:
    """Return kind, bundle size, end and checksum of the frame whose header is at `at`, if one is."""
    body = at + HEADER_BYTES
    if not data.startswith(_MAGIC, at) or body > len(data):
        return None
    fields = data[at : at + _FIELDS.size]
    _, kind, bundle_size, trailer_size, checksum = _FIELDS.unpack(fields)
    end = body + bundle_size + trailer_size
    (crc,) = _CRC.unpack_from(data, at + _FIELDS.size)
    if crc != _header_crc(fields, start + at) or end > len(data):
        return None
    return kind, bundle_size, end, checksum


def _find_header(data: bytes, at: int, start: int) -> int | None:
    while (at := data.find(_MAGIC, at)) >= 0:
        if _header(data, at, start):
            return at
        at += 1
    return None


def encode_trailer(trailer: Trailer) -> bytes:
    """Return the CBOR that stands behind a bundle."""
    told = [_hole_items(hole) for hole in trailer.told]
    items = [_VERSION, _link_items(trailer.link), _span_items(trailer.spans), _cursor_items(trailer.cursors)]
    return cbor2.dumps([*items, told] if told else items)


@lru_cache(maxsize=16)  # the oldest that waits is looked at again and again
def decode_trailer(data: bytes) -> Trailer:
    """Read what `encode_trailer` wrote; items that a later version added at the end are ignored.

    Raises `MalformedError`.
    """
    match decode_items(data):
        case [1, link, [*spans], [*cursors]]:
            return Trailer(_link(link), tuple(map(_span, spans)), tuple(map(_cursor, cursors)))
        case [1, link, [*spans], [*cursors], [*told], *_]:
            holes = tuple(map(_hole, told))
            return Trailer(_link(link), tuple(map(_span, spans)), tuple(map(_cursor, cursors)), holes)
    raise MalformedError("a frame's trailer has an unknown form")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the CBOR that a segment opens with."""
    head = None if snapshot.head is None else _link_items(snapshot.head)
    return cbor2.dumps([_VERSION, head, _cursor_items(snapshot.cursors), state_items(snapshot.state), snapshot.gateway])


def decode_snapshot(data: bytes) -> Snapshot:
    """Read what `encode_snapshot` wrote.

    Raises `MalformedError`.
    """
    match decode_items(data):
        case [1, head, [*cursors], state, str(gateway), *_]:
            link = None if head is None else _link(head)
            return Snapshot(gateway, link, tuple(map(_cursor, cursors)), read_state(state))
    raise MalformedError("a segment's snapshot has an unknown form")


def decode_items(data: bytes) -> Any:  # noqa: ANN401 - whatever CBOR can say; the caller matches its form
    """Decode one CBOR value.

    Raises `MalformedError`.
    """
    try:
        return cbor2.loads(data)
    except cbor2.CBORDecodeError as error:
        raise MalformedError("a frame's trailer is not CBOR") from error


def state_items(state: StoreState) -> list[object]:
    """Return `state` as CBOR items."""
    return [state.changes, _note_items(state.counting), _note_items(state.former)]


def read_state(items: object) -> StoreState:
    """Read what `state_items` made.

    Raises `MalformedError`.
    """
    match items:
        case [int(changes), [*counting], [*former], *_]:
            return StoreState(changes, tuple(map(_note, counting)), tuple(map(_note, former)))
    raise MalformedError("the state of the stores has an unknown form")


def _note_items(notes: tuple[StoreNote, ...]) -> list[object]:
    return [[each.store.store, each.store.incarnation, each.counter] for each in notes]


def _note(items: object) -> StoreNote:
    match items:
        case [bytes(store), int(incarnation), int(counter), *_]:
            return StoreNote(StoreId(store, incarnation), counter)
    raise MalformedError("a store's state has an unknown form")


def _link_items(link: Link) -> list[object]:
    return [link.chain, link.no, link.hash]


def _link(items: object) -> Link:
    match items:
        case [bytes(chain), int(no), bytes(digest)]:
            return Link(chain, no, digest)
    raise MalformedError("a link has an unknown form")


def _span_items(spans: tuple[StreamSpan, ...]) -> list[list[object]]:
    return [[s.stream, s.first, s.count, s.from_ms, s.to_ms] for s in spans]


def _span(items: object) -> StreamSpan:
    match items:
        case [bytes(stream), int(first), int(count), int(from_ms), int(to_ms), *_]:
            return StreamSpan(stream, first, count, from_ms, to_ms)
    raise MalformedError("a span has an unknown form")


def _hole_items(hole: Hole) -> list[object]:
    return [hole.chain, hole.first, hole.last, hole.hash, hole.cause, _span_items(hole.spans)]


def _hole(items: object) -> Hole:
    match items:
        case [bytes(chain), int(first), int(last), bytes(digest), str(cause), [*spans], *_]:
            return Hole(chain, first, last, digest, cause, tuple(map(_span, spans)))
    raise MalformedError("a hole has an unknown form")


def _cursor_items(cursors: tuple[Cursor, ...]) -> list[list[object]]:
    return [[c.device, c.session, c.sequence] for c in cursors]


def _cursor(items: object) -> Cursor:
    match items:
        case [str(device), str(session), int(sequence), *_]:
            return Cursor(device, session, sequence)
    raise MalformedError("a cursor has an unknown form")
