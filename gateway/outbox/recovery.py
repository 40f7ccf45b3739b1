"""What a segment of an earlier process says: its index, what a restart must know, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.envelope.layout import NO_HASH
from gateway.envelope.open import parse
from gateway.errors import MalformedError, OutboxError
from gateway.model import Cursor, Hole, Link
from gateway.outbox.files import Files
from gateway.outbox.framing import Damage, Frame, FrameKind, Snapshot, StoreState, decode_snapshot, decode_trailer, scan
from gateway.outbox.segment import Segment

DAMAGED = "damaged"


@dataclass(slots=True)
class Memory:
    """What a restart must know; it is gathered from the segments in order, and each new one opens with it."""

    gateway: str
    head: Link | None = None
    cursors: dict[str, Cursor] = field(default_factory=dict)

    def note(self, link: Link, cursors: Sequence[Cursor]) -> None:
        """Take in a durable bundle."""
        self.head = link
        self.cursors.update((cursor.device, cursor) for cursor in cursors)

    def snapshot(self, state: StoreState) -> Snapshot:
        """Return what a segment opens with."""
        return Snapshot(self.gateway, self.head, tuple(self.cursors.values()), state)


def recover(files: Files, path: Path, memory: Memory, before: Segment | None) -> tuple[Segment, StoreState | None]:
    """Read a segment of an earlier process into an index, and what it says into `memory`.

    `before` is the segment before it: its lost end shows in this one's snapshot, and so does what it kept although its
    process took it for lost and appended it again here. Nothing but zeros is cut off. Raises `OutboxError` for a
    segment of another gateway, and `OSError`.
    """
    segment = Segment(files, path, files.size(path))
    state: StoreState | None = None
    for found in scan(files.read(path, 0, segment.size)):
        segment.end = found.end
        if isinstance(found, Damage):
            continue
        try:
            if found.kind == FrameKind.SNAPSHOT and state is None:
                snapshot = decode_snapshot(found.trailer)
                if snapshot.gateway != memory.gateway:
                    raise OutboxError(
                        f"{path}: a segment of gateway {snapshot.gateway}, and this is gateway {memory.gateway}:"
                        " move it back to where it belongs, or give this gateway another directory"
                    )
                if before is not None:
                    _compare(before, memory.head, snapshot.head, adjacent=before.number == segment.number - 1)
                memory.head, state = snapshot.head, snapshot.state
                memory.cursors = {cursor.device: cursor for cursor in snapshot.cursors}
            elif found.kind == FrameKind.BUNDLE:
                _take(segment, found, memory, look_for_holes=state is not None)
        except MalformedError:
            segment.suspect = True
    segment.suspect |= state is None or segment.marked
    segment.cut()
    return segment, state


def _compare(before: Segment, found: Link | None, told: Link | None, *, adjacent: bool) -> None:
    """Compare where a segment ends with where a later one says that all had ended.

    What should have come between shows only if no segment between them was let go.
    """
    if found and told and found.chain == told.chain and told.no < found.no:
        before.forget_beyond(told)
    elif adjacent:
        _add_holes(before, _between(found, told))


def _take(segment: Segment, frame: Frame, memory: Memory, *, look_for_holes: bool) -> None:
    """Take one bundle's frame into the index, unless it is the second copy."""
    trailer = decode_trailer(frame.trailer)
    link = trailer.link
    if link == memory.head:
        return
    follows = memory.head is not None and (link.chain, link.no) == (memory.head.chain, memory.head.no + 1)
    if look_for_holes and not follows:
        _add_holes(segment, _between(memory.head, named_by(frame, link)))
    segment.index(link, frame.offset)
    memory.note(link, trailer.cursors)


def _add_holes(segment: Segment, holes: Sequence[Hole]) -> None:
    segment.holes += holes
    segment.suspect |= bool(holes)


def named_by(frame: Frame, link: Link) -> Link | None:
    """Return the bundle before `link`, as the bundle itself names it; None for the first of all in a lane."""
    try:
        bundle = parse(frame.bundle)
    except MalformedError:
        return Link(link.chain, link.no - 1, NO_HASH) if link.no else None
    if link.no:
        return Link(link.chain, link.no - 1, bundle.prev)
    # The root that a first urgent chain names has no hash: it never was.
    return Link(*bundle.predecessor, bundle.prev) if bundle.predecessor and bundle.prev != NO_HASH else None


def _between(known: Link | None, last: Link | None) -> list[Hole]:
    """Return the bundles that come after `known`, up to `last`."""
    if last is None or last == known:
        return []
    first = known.no + 1 if known is not None and known.chain == last.chain else 0
    return [Hole(last.chain, first, last.no, last.hash, DAMAGED)] if first <= last.no else []
