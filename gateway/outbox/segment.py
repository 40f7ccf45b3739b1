"""One segment: a preallocated file of frames, and the little that is kept of it in memory."""

import errno
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import MalformedError, OutboxDamagedError, OutboxError, OutboxFullError
from gateway.model import Cursor, Link, SealedBundle
from gateway.outbox.disk import NO_ROOM, read_bytes, sync_directory, write_all
from gateway.outbox.framing import (
    MAX_BUNDLE_BYTES,
    MAX_FRAME_BYTES,
    MAX_TRAILER_BYTES,
    Damage,
    Frame,
    FrameKind,
    Snapshot,
    StoreState,
    Trailer,
    decode_snapshot,
    decode_trailer,
    encode_frame,
    encode_snapshot,
    encode_trailer,
    encode_twice,
    scan,
    second_offset,
)

_SUFFIX = ".seg"


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


@dataclass(slots=True)
class Run:
    """Neighbours in a segment, numbered without a hole: bundles no..no + count - 1 of a chain, from `index` on."""

    chain: bytes
    no: int
    index: int
    count: int

    @property
    def last(self) -> int:
        """The newest bundle's number."""
        return self.no + self.count - 1


class Segment:
    """A file of frames. In memory: four bytes a bundle and one `Run` a chain; all else is read when it is wanted."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.number = int(path.stem)
        self.base = 0
        """Position of its first bundle in the outbox."""
        self.size = size
        """Bytes that it takes of the disk."""
        self.end = 0
        """Where the next frame goes."""
        self.missing = 0
        """Bundles that must have been here and cannot be read."""
        self.suspect = False
        """It holds something that could not be read, so only a person deletes it."""
        self.runs: list[Run] = []
        self._offsets = array("I")
        self._fd = -1

    @property
    def count(self) -> int:
        """How many bundles it holds."""
        return len(self._offsets)

    @classmethod
    def create(cls, path: Path, segment_bytes: int, snapshot: Snapshot) -> "Segment":
        """Make the file durable with its snapshot, written twice; it has its name only once it is whole.

        Raises `OutboxFullError` where there is no room, and `OSError`.
        """
        if path.exists():
            raise FileExistsError(errno.EEXIST, "a segment is never written over", path.name)
        segment = cls(path, segment_bytes)
        frames = encode_twice(FrameKind.SNAPSHOT, b"", encode_snapshot(snapshot), 0)
        segment.end = len(frames)
        if not segment.fits():
            raise OutboxFullError(f"outbox.segment_bytes = {segment_bytes} is too small for what a restart must know")
        fresh = path.with_suffix(".tmp")
        segment._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(segment._fd, 0, segment_bytes)
            write_all(segment._fd, frames, 0)
            os.fsync(segment._fd)
            fresh.rename(path)
            sync_directory(path.parent)
        except OSError as error:
            os.close(segment._fd)
            fresh.unlink(missing_ok=True)
            if error.errno in NO_ROOM:
                raise OutboxFullError(
                    f"no room for a segment of {segment_bytes} bytes in {path.parent} ({error.strerror}): free space on"
                    " this file system, or lower outbox.capacity_bytes"
                ) from error
            raise
        return segment

    @classmethod
    def recover(cls, path: Path, memory: Memory, before: "Segment | None") -> tuple["Segment", StoreState | None]:
        """Read a segment of an earlier process into an index, and what it says into `memory`.

        `before` is the segment before it: its lost end shows in this one's snapshot. Nothing but zeros is cut off.
        Raises `OutboxError` for a segment of another gateway, and `OSError`.
        """
        segment = cls(path, path.stat().st_size)
        data = read_bytes(path, 0, segment.size)
        state: StoreState | None = None
        for found in scan(data):
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
                    if before is not None and before.number == segment.number - 1:
                        before.mark_missing(_missing_between(memory.head, snapshot.head))
                    memory.head, state = snapshot.head, snapshot.state
                    memory.cursors = {cursor.device: cursor for cursor in snapshot.cursors}
                elif found.kind == FrameKind.BUNDLE:
                    trailer = decode_trailer(found.trailer)
                    if trailer.link != memory.head:
                        if state is not None:
                            segment.mark_missing(_missing_between(memory.head, trailer.link) - 1)
                        segment._index(trailer.link, found.offset)
                        memory.note(trailer.link, trailer.cursors)
            except MalformedError:
                segment.suspect = True
        segment.suspect |= state is None
        segment.size = segment.end
        os.truncate(path, segment.end)
        return segment, state

    def mark_missing(self, count: int) -> None:
        """Note that `count` bundles must have been here."""
        self.missing += max(count, 0)
        self.suspect |= count > 0

    def fits(self) -> bool:
        """Whether the largest frame, written twice, still fits."""
        return second_offset(self.end + MAX_FRAME_BYTES) + MAX_FRAME_BYTES <= self.size

    def append(self, bundle: SealedBundle, cursors: Sequence[Cursor]) -> bytes:
        """Give the bundle its place and return the bytes that belong there.

        Raises `OutboxError` for what is too large, `OutboxFullError` where it does not fit in this segment.
        """
        trailer = encode_trailer(Trailer(bundle.link, bundle.spans, tuple(cursors)))
        if len(bundle.data) > MAX_BUNDLE_BYTES or len(trailer) > MAX_TRAILER_BYTES:
            raise OutboxError(f"a bundle of {len(bundle.data)} + {len(trailer)} bytes is larger than a frame may be")
        encode = encode_twice if bundle.opens_epoch else encode_frame
        frames = encode(FrameKind.BUNDLE, bundle.data, trailer, self.end)
        if self.end + len(frames) > self.size:
            raise OutboxFullError("the bundle does not fit in this segment: roll first")
        self._index(bundle.link, self.end)
        self.end += len(frames)
        return frames

    def write(self, frames: bytes, offset: int) -> None:
        """Write `frames` at `offset` and make them durable.

        Raises `OSError`.
        """
        write_all(self._fd, frames, offset)
        os.fdatasync(self._fd)

    def finish(self) -> None:
        """Give back the room that was not used, and close the file.

        Raises `OSError`.
        """
        os.ftruncate(self._fd, self.end)
        os.close(self._fd)

    def extent(self, first: int, last: int) -> int:
        """Return how many bytes the bundles at first..last take here, second copies included."""
        end = self._offsets[last + 1] if last + 1 < len(self._offsets) else self.end
        return end - self._offsets[first]

    def read(self, index: int) -> Frame:
        """Read a bundle's frame, or its second copy where the first is damaged.

        Raises `OutboxDamagedError` if neither can be read any more.
        """
        offset = self._offsets[index]
        try:
            data = read_bytes(self.path, offset, self.extent(index, index))
        except OSError as error:
            raise OutboxDamagedError(f"{self.path.name}: cannot be read: {error.strerror}") from error
        for found in scan(data, offset):
            if isinstance(found, Frame):
                return found
        raise OutboxDamagedError(f"{self.path.name}: the bundle at byte {offset} cannot be read any more")

    def _index(self, link: Link, offset: int) -> None:
        run = self.runs[-1] if self.runs else None
        if run is not None and run.chain == link.chain and run.last + 1 == link.no:
            run.count += 1
        else:
            self.runs.append(Run(link.chain, link.no, len(self._offsets), 1))
        self._offsets.append(offset)


def segment_path(directory: Path, number: int) -> Path:
    """Return where segment `number` lies."""
    return directory / f"{number:012}{_SUFFIX}"


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments in order; files of other names are not ours."""
    return sorted(path for path in directory.glob(f"*{_SUFFIX}") if path.stem.isascii() and path.stem.isdecimal())


def read_trailers(path: Path) -> Iterator[Trailer]:
    """Yield what a segment says of each of its bundles, changing nothing.

    Raises `OSError`, `MalformedError`.
    """
    last: Link | None = None
    for found in scan(read_bytes(path, 0, path.stat().st_size)):
        if isinstance(found, Frame) and found.kind == FrameKind.BUNDLE:
            trailer = decode_trailer(found.trailer)
            if trailer.link != last:
                yield trailer
            last = trailer.link


def _missing_between(known: Link | None, link: Link | None) -> int:
    """Return how many steps lead from `known` to `link`."""
    if link is None or link == known:
        return 0
    if known is not None and known.chain == link.chain:
        return link.no - known.no
    return link.no + 1
