"""One lane of the outbox: its segments, and what has been appended to the newest and is not durable yet."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from gateway.errors import OutboxDamagedError, OutboxFullError, OutboxWriteError
from gateway.model import Cursor, Lane, Link, SealedBundle
from gateway.outbox.disk import Disk
from gateway.outbox.files import Files
from gateway.outbox.framing import Frame, decode_trailer
from gateway.outbox.receipted import Receipted
from gateway.outbox.recovery import Memory, recover
from gateway.outbox.segment import Segment, segment_path, segment_paths
from gateway.outbox.shelf import Shelf

_FIRST_POSITION = {Lane.DATA: 0, Lane.URGENT: 1 << 48}


@dataclass(frozen=True, slots=True)
class Stored:
    """A durable bundle; `position` orders all of its lane that one opened outbox holds, earlier processes' first.

    No two lanes share a position.
    """

    lane: Lane
    position: int
    link: Link
    size: int
    """Bytes on the wire."""
    count: int
    """Records inside, of all streams."""
    from_ms: int
    """The oldest record's time, UTC milliseconds since 1970."""


@dataclass(slots=True)
class _Pending:
    """A bundle that is not durable yet: the same bytes are placed again where a segment fails."""

    bundle: SealedBundle
    cursors: tuple[Cursor, ...]
    frames: bytes
    """As they lie in the present segment; empty: not placed in it."""
    written: bool = False
    """Handed to the disk, which has not answered yet."""


class Log:
    """Appended to, synced and rolled by one task; read at any time."""

    def __init__(self, lane: Lane, directory: Path, *, gateway: str, files: Files, disk: Disk, book: Receipted) -> None:
        self.on_durable: Callable[[float], None] = lambda _: None
        """Called with the seconds that each write and fdatasync took, after what it wrote counts as durable."""
        self.on_damage: Callable[[], None] = lambda: None
        self.memory = Memory(gateway)
        self.active: Segment | None = None
        self._lane = lane
        self._directory = directory
        self._files = files
        self._disk = disk
        self._book = book
        self.shelf = Shelf(book, first=_FIRST_POSITION[lane])
        self._numbers = count(1)
        self._pending: list[_Pending] = []
        self._unreadable: set[int] = set()

    def recover(self) -> None:
        """Scan what earlier processes left. Raises `OutboxError` and `OSError`."""
        for unfinished in self._files.names(self._directory, ".tmp"):
            self._files.delete(unfinished)
        paths = segment_paths(self._files, self._directory)
        if paths:
            self._files.settle(paths[-1])
        before: Segment | None = None
        for path in paths:
            segment, state = recover(self._files, path, self.memory, before)
            if state is not None:
                self._book.believe(state)
            self.shelf.add(segment)
            before = segment
        self.shelf.durable += sum(segment.count for segment in self.shelf.segments)
        self._numbers = count(1 if before is None else before.number + 1)

    @property
    def missing(self) -> int:
        """How many bundles were durable and cannot be read."""
        return sum(segment.missing for segment in self.shelf.segments) + len(self._unreadable)

    def fits(self) -> bool:
        """Whether the largest bundle, written twice, still fits in the present segment."""
        return self.active is not None and self._placed and self.active.fits()

    @property
    def _placed(self) -> bool:
        """Nothing waits for another segment."""
        return all(each.frames for each in self._pending)

    def append(self, bundle: SealedBundle, cursors: Sequence[Cursor]) -> None:
        """Give a bundle the next place. Raises `OutboxError`, `OutboxFullError` where it does not fit."""
        if self.active is None or not self._placed:
            raise OutboxFullError("there is no segment to append to: roll first")
        frames = self.active.append(bundle, cursors)
        self._pending.append(_Pending(bundle, tuple(cursors), frames))

    async def sync(self) -> None:
        """Make everything that was appended durable, with one fdatasync.

        Raises `OutboxWriteError`, also as long as something waits for another segment.
        """
        segment = self.active
        batch = [each for each in self._pending if each.frames and not each.written]
        if segment is not None and batch:
            for each in batch:
                each.written = True
            frames = b"".join(each.frames for each in batch)
            await self._disk.run(
                partial(_write, segment, frames, segment.end - len(frames)),
                done=partial(self._became_durable, batch),
                failed=partial(self._withdraw, segment),
            )
        else:
            await self._disk.run(lambda: None)
        if not self._placed:
            raise OutboxWriteError("bundles that a segment did not keep wait for the next one")

    async def settle(self) -> None:
        """Sync until nothing is left that has its place. Raises `OutboxWriteError`."""
        while self._pending and self._placed:
            await self.sync()

    def create(self, segment_bytes: int) -> Callable[[], Segment]:
        """Return the work that makes the next segment; `begin` takes its result."""
        path = segment_path(self._directory, next(self._numbers))
        return partial(Segment.create, self._files, path, segment_bytes, self.memory.snapshot(self._book.state))

    def begin(self, segment: Segment) -> None:
        """Append to `segment` from now on, and first again what a segment that failed did not keep."""
        self.retire()
        self.shelf.add(segment)
        self.active = segment
        for each in self._pending:
            try:
                each.frames = segment.append(each.bundle, each.cursors)
            except OutboxFullError:
                break

    def retire(self) -> None:
        """Append to the present segment no more."""
        if self.active is not None:
            self.active.size = self.active.end
            self._disk.submit(self.active.finish)
            self.active = None

    def unreceipted(self, after: int, limit: int) -> list[Stored]:
        """Return up to `limit` durable bundles beyond position `after`, ascending, without those unreadable."""
        found: list[Stored] = []
        for segment, first, last in self.shelf.waiting(after):
            for index in range(first, last + 1):
                if len(found) >= limit:
                    return found
                with suppress(OutboxDamagedError):
                    found.append(self._describe(segment.base + index, self.read(segment, index)))
        return found

    def read(self, segment: Segment, index: int) -> Frame:
        """Read a bundle's frame. Raises `OutboxDamagedError`, and tells `on_damage` the first time."""
        try:
            return segment.read(index)
        except OutboxDamagedError:
            if (position := segment.base + index) not in self._unreadable:
                self._unreadable.add(position)
                self.on_damage()
            raise

    def hash_of(self, chain: bytes, no: int) -> bytes | None:
        """Return the hash of a bundle that was written here; None if it cannot be known any more, b"" if none was."""
        head = self.memory.head
        if head is not None and head.chain == chain and no > head.no:
            return b""
        if (place := self.shelf.find(chain, no)) is not None:
            with suppress(OutboxDamagedError):
                return decode_trailer(self.read(*place).trailer).link.hash
        return None

    def waiting(self) -> Iterator[tuple[Segment, int, int]]:
        """Yield all durable, unreceipted bundles as (segment, first index, last index)."""
        return self.shelf.waiting(-1)

    def _describe(self, position: int, frame: Frame) -> Stored:
        trailer = decode_trailer(frame.trailer)
        return Stored(
            lane=self._lane,
            position=position,
            link=trailer.link,
            size=len(frame.bundle),
            count=sum(span.count for span in trailer.spans),
            from_ms=min((span.from_ms for span in trailer.spans), default=0),
        )

    def _became_durable(self, batch: Sequence[_Pending], seconds: float) -> None:
        del self._pending[: len(batch)]
        for each in batch:
            self.memory.note(each.bundle.link, each.cursors)
        self.shelf.durable += len(batch)
        self.on_durable(seconds)

    def _withdraw(self, segment: Segment) -> None:
        """A write or a sync was refused: what is not durable now waits for another segment."""
        if self.active is segment:
            segment.forget(sum(1 for each in self._pending if each.frames))
            self.retire()
            for each in self._pending:
                each.frames, each.written = b"", False


def _write(segment: Segment, frames: bytes, offset: int) -> float:
    started_s = time.perf_counter()
    segment.write(frames, offset)
    return time.perf_counter() - started_s
