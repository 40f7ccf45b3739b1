"""One segment: a preallocated file of frames, and the little that is kept of it in memory."""

import errno
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import MalformedError, OutboxDamagedError, OutboxError, OutboxFullError
from gateway.model import Cursor, Hole, Link, SealedBundle
from gateway.outbox.files import NO_ROOM, Files
from gateway.outbox.framing import (
    MAX_BUNDLE_BYTES,
    MAX_FRAME_BYTES,
    MAX_TRAILER_BYTES,
    Frame,
    FrameKind,
    Snapshot,
    Trailer,
    decode_trailer,
    encode_frame,
    encode_snapshot,
    encode_trailer,
    encode_twice,
    scan,
    second_offset,
)

_WHOLE, _DAMAGED = ".seg", ".bad"


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

    def __init__(self, files: Files, path: Path, size: int) -> None:
        self.path = path
        self.number = int(path.stem)
        self.base = 0
        """Position of its first bundle in the outbox."""
        self.size = size
        """Bytes that it takes of the disk."""
        self.end = 0
        """Where the next frame goes."""
        self.holes: list[Hole] = []
        """Bundles that must have been here and cannot be read."""
        self.suspect = False
        """It holds something that could not be read, so only a person deletes it."""
        self.failed = False
        """A write or a sync was refused. The next one may be called a success although the data is gone: never try."""
        self.runs: list[Run] = []
        self._files = files
        self._offsets = array("I")
        self._fd = -1

    @property
    def count(self) -> int:
        """How many bundles it holds."""
        return len(self._offsets)

    @property
    def missing(self) -> int:
        """How many bundles must have been here and cannot be read."""
        return sum(hole.count for hole in self.holes)

    @property
    def marked(self) -> bool:
        """Its name says that something in it could not be read, and that this has been told."""
        return self.path.suffix == _DAMAGED

    @classmethod
    def create(cls, files: Files, room: Path, path: Path, segment_bytes: int, snapshot: Snapshot) -> "Segment":
        """Make a segment of the `room` that `allocate` took; it has its name only once its snapshot is durable.

        Raises `OutboxFullError` where the snapshot leaves no room, and `OSError`.
        """
        segment = cls(files, path, segment_bytes)
        frames = encode_twice(FrameKind.SNAPSHOT, b"", encode_snapshot(snapshot), 0)
        segment.end = len(frames)
        if not segment.fits():
            raise OutboxFullError(f"outbox.segment_bytes = {segment_bytes} is too small for what a restart must know")
        if files.exists(path):
            raise FileExistsError(errno.EEXIST, "a segment is never written over", path.name)
        try:
            segment._fd = files.open(room)
            files.write(segment._fd, frames, 0)
            files.sync_all(segment._fd)
            files.rename(room, path)
            files.sync_directory(path.parent)
        except OSError:
            segment._abandon(room)
            raise
        return segment

    def _abandon(self, room: Path) -> None:
        """Clear away what was not made; if that fails too, the next start does it."""
        with suppress(OSError):
            self._files.close(self._fd)
        for path in (room, self.path):
            with suppress(OSError):
                self._files.delete(path)

    def mark(self) -> None:
        """Rename it, so that the next start knows that its damage has been told.

        Raises `OSError`.
        """
        marked = self.path.with_suffix(_DAMAGED)
        self._files.rename(self.path, marked)
        self.path = marked

    def cut(self) -> None:
        """Give back the room behind the last frame of a segment that nobody appends to. Raises `OSError`."""
        if self.size > self.end:
            fd = self._files.open(self.path)
            try:
                self._files.truncate(fd, self.end)
            finally:
                self._files.close(fd)
            self.size = self.end

    def fits(self) -> bool:
        """Whether the largest frame, written twice, still fits."""
        return second_offset(self.end + MAX_FRAME_BYTES) + MAX_FRAME_BYTES <= self.size

    def append(self, bundle: SealedBundle, cursors: Sequence[Cursor], told: Sequence[Hole] = ()) -> bytes:
        """Give the bundle its place and return the bytes that belong there.

        Raises `OutboxError` for what is too large, `OutboxFullError` where it does not fit in this segment.
        """
        trailer = encode_trailer(Trailer(bundle.link, bundle.spans, tuple(cursors), tuple(told)))
        if len(bundle.data) > MAX_BUNDLE_BYTES or len(trailer) > MAX_TRAILER_BYTES:
            raise OutboxError(f"a bundle of {len(bundle.data)} + {len(trailer)} bytes is larger than a frame may be")
        encode = encode_twice if bundle.opens_epoch else encode_frame
        frames = encode(FrameKind.BUNDLE, bundle.data, trailer, self.end)
        if self.end + len(frames) > self.size:
            raise OutboxFullError("the bundle does not fit in this segment: roll first")
        self.index(bundle.link, self.end)
        self.end += len(frames)
        return frames

    def write(self, frames: bytes, offset: int) -> None:
        """Write `frames` at `offset` and make them durable.

        Raises `OSError`; that is final for this segment, and what was not durable before belongs into another.
        """
        if self.failed:
            raise OSError(errno.EIO, "an earlier write or sync was refused", self.path.name)
        try:
            self._files.write(self._fd, frames, offset)
            self._files.sync(self._fd)
        except OSError:
            self.failed = True
            raise

    def forget(self, count: int) -> None:
        """Take the last `count` bundles out of the index: they were appended and never became durable."""
        for _ in range(count):
            self.end = self._offsets.pop()
            self.runs[-1].count -= 1
            if not self.runs[-1].count:
                self.runs.pop()

    def forget_beyond(self, last: Link) -> None:
        """Take out of the index, and out of the holes, what comes after `last` of its chain."""
        while self.runs and self.runs[-1].chain == last.chain and self.runs[-1].last > last.no:
            self.forget(min(self.runs[-1].last - last.no, self.runs[-1].count))
        self.holes = [hole for hole in self.holes if hole.chain != last.chain or hole.first <= last.no]

    def finish(self) -> None:
        """Give back the room that was not used, and close the file.

        Raises `OSError`.
        """
        try:
            self._files.truncate(self._fd, self.end)
        finally:
            self._files.close(self._fd)

    def numbered(self, index: int) -> tuple[bytes, int]:
        """Return chain and number of a bundle."""
        run = next(run for run in reversed(self.runs) if run.index <= index)
        return run.chain, run.no + index - run.index

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
            data = self._files.read(self.path, offset, self.extent(index, index))
        except OSError as error:
            raise OutboxDamagedError(f"{self.path.name}: cannot be read: {error.strerror}") from error
        for found in scan(data, offset):
            if isinstance(found, Frame):
                return found
        raise OutboxDamagedError(f"{self.path.name}: the bundle at byte {offset} cannot be read any more")

    def index(self, link: Link, offset: int) -> None:
        """Take note of the bundle whose frame is at `offset`."""
        run = self.runs[-1] if self.runs else None
        if run is not None and run.chain == link.chain and run.last + 1 == link.no:
            run.count += 1
        else:
            self.runs.append(Run(link.chain, link.no, len(self._offsets), 1))
        self._offsets.append(offset)


def allocate(files: Files, path: Path, size: int) -> None:
    """Take room of the disk for a segment.

    Raises `OutboxFullError` where there is none, and `OSError`.
    """
    try:
        fd = files.create(path)
        try:
            files.allocate(fd, size)
            files.sync_all(fd)
        finally:
            files.close(fd)
    except OSError as error:
        with suppress(OSError):
            files.delete(path)
        if error.errno in NO_ROOM:
            raise OutboxFullError(
                f"no room for a segment of {size} bytes in {path.parent} ({error.strerror}): free space on this file"
                " system, or lower outbox.capacity_bytes"
            ) from error
        raise


def segment_path(directory: Path, number: int) -> Path:
    """Return where segment `number` lies."""
    return directory / f"{number:012}{_WHOLE}"


def segment_paths(files: Files, directory: Path) -> list[Path]:
    """Return the segments in order; files of other names are not ours."""
    paths = [path for suffix in (_WHOLE, _DAMAGED) for path in files.names(directory, suffix)]
    return sorted((path for path in paths if path.stem.isascii() and path.stem.isdecimal()), key=lambda path: path.stem)


def read_trailers(files: Files, path: Path) -> Iterator[Trailer]:
    """Yield what a segment says of each of its bundles, changing nothing; what cannot be read is left out.

    Raises `OSError`.
    """
    last: Link | None = None
    for found in scan(files.read(path, 0, files.size(path))):
        if isinstance(found, Frame) and found.kind == FrameKind.BUNDLE:
            with suppress(MalformedError):
                trailer = decode_trailer(found.trailer)
                if trailer.link != last:
                    yield trailer
                last = trailer.link
