"""The outbox: a log of segments on disk, from which only a receiver's receipts let anything go."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from gateway.errors import OutboxDamagedError, OutboxError, OutboxFullError, OutboxLockedError
from gateway.model import Cursor, Link, Receipt, ReceiptRange, SealedBundle, StoreId, StreamSpan
from gateway.outbox.disk import Disk, delete_file, read_bytes, replace_file, settle
from gateway.outbox.framing import Frame, decode_trailer
from gateway.outbox.receipted import Receipted
from gateway.outbox.segment import Memory, Segment, read_trailers, segment_path, segment_paths
from gateway.outbox.shelf import OutboxStats, Shelf

T = TypeVar("T")

_BOOK = "receipted"
_BOOK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A durable bundle; `position` orders all that one opened outbox holds, earlier processes' first."""

    position: int
    link: Link
    size: int
    """Bytes on the wire."""
    count: int
    """Records inside, of all streams."""
    from_ms: int
    """The oldest record's time, UTC milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a receipt changed."""

    bundles: int
    """Bundles held here that no receipt covered before."""
    mismatched: int
    """Ranges that were ignored because their hash is not that of the bundle here: alarm."""
    resend: bool
    """A store was restored, replaced or added: what it lacks is unreceipted again, from the first on."""
    covered: tuple[ReceiptRange, ...]
    """Of the ranges named, what all required stores have now."""


@dataclass(frozen=True, slots=True)
class _Appended:
    link: Link
    cursors: tuple[Cursor, ...]
    frames: bytes


class Outbox:
    """Made by `open`. One task appends, syncs and rolls; everything else may be called at any time.

    `on_fsync` is called with the seconds that each write and fdatasync took; `on_damage` with `stats().missing`, which
    `open` may have left above 0, each time that it grows.
    """

    def __init__(self, directory: Path, lock: int, *, gateway: str, segment_bytes: int, capacity_bytes: int) -> None:
        self.on_fsync: Callable[[float], None] = lambda _: None
        self.on_damage: Callable[[int], None] = lambda _: None
        self._directory = directory
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._capacity_bytes = capacity_bytes
        self._disk = Disk()
        self._book = _read_book(directory / _BOOK)
        self._book_saved_s = time.monotonic()
        self._memory = Memory(gateway)
        self._shelf = Shelf(self._book)
        self._unreadable: set[int] = set()
        self._numbers = count(1)
        self._active: Segment | None = None
        self._pending: list[_Appended] = []
        self._grown = asyncio.Event()

    @classmethod
    def open(cls, directory: Path, *, gateway: str, segment_bytes: int, capacity_bytes: int) -> "Outbox":
        """Lock the outbox, recover what earlier processes left by scanning it, and begin a segment of its own.

        Raises `OutboxLockedError`, `OutboxError` where the directory cannot be read or holds a segment of another
        gateway, `OutboxWriteError`. Where there is no room for a segment it opens all the same, so that the backlog can
        leave; `roll` then says what is wrong.
        """
        with ExitStack() as undo:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                undo.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                outbox = cls(
                    directory, lock, gateway=gateway, segment_bytes=segment_bytes, capacity_bytes=capacity_bytes
                )
                outbox._recover()
            except BlockingIOError as error:
                raise OutboxLockedError(f"{directory}: another process holds this outbox: stop it first") from error
            except OSError as error:
                raise OutboxError(f"{directory}: cannot be opened: {error}") from error
            undo.callback(outbox._disk.close)
            with suppress(OutboxFullError):
                outbox._begin(outbox._disk.submit(outbox._plan_segment()).result())
            for segment in outbox._shelf.never_used():
                outbox._delete(segment)
            undo.pop_all()
        return outbox

    @property
    def head(self) -> Link | None:
        """The newest durable bundle: what a chain opened now names as its predecessor."""
        return self._memory.head

    @property
    def cursors(self) -> Mapping[str, Cursor]:
        """How far each device's stored records are durable here, by device."""
        return MappingProxyType(self._memory.cursors)

    @property
    def store(self) -> StoreId | None:
        """The store whose receipts count, the first of several; None before the first receipt."""
        return next((note.store for note in self._book.state.counting), None)

    @property
    def receipt_counter(self) -> int:
        """That store's newest receipt's counter; -1 before the first."""
        return next((note.counter for note in self._book.state.counting), -1)

    def require(self, stores: int) -> None:
        """Forget only what so many stores have; one is enough without this."""
        self._book.require(stores)

    def fits(self) -> bool:
        """Whether the largest bundle, written twice, still fits in this segment; if not, roll."""
        return self._active is not None and self._active.fits()

    async def roll(self) -> None:
        """Finish this segment, which makes everything appended durable, and begin the next.

        Receipted segments make room, the oldest first. Raises `OutboxFullError` where that is not enough; nothing is
        lost then, and it may be tried again after a receipt. Raises `OutboxWriteError`.
        """
        while self._pending:
            await self.sync()
        while True:
            try:
                plan = self._plan_segment()
                self._retire()
                await self._run(plan, self._begin)
            except OutboxFullError:
                oldest = next(self._shelf.removable(), None)
                if oldest is None:
                    raise
                self._delete(oldest)
            else:
                return

    def append(self, bundle: SealedBundle, cursors: Sequence[Cursor] = ()) -> None:
        """Give a bundle the next place. It is not durable, and not seen by anybody, before `sync`.

        Raises `OutboxWriteError` once a write has failed, `OutboxFullError` where it does not fit in this segment.
        """
        self._disk.check()
        if self._active is None:
            raise OutboxFullError("there is no segment to append to: roll first")
        frames = self._active.append(bundle, cursors)
        self._pending.append(_Appended(bundle.link, tuple(cursors), frames))

    async def sync(self) -> None:
        """Make everything appended so far durable, with one fdatasync in a thread.

        If the caller is cancelled the sync still runs to its end. Raises `OutboxWriteError`, from then on always: what
        was appended and not synced is not durable, and no later sync can make it so.
        """
        segment, batch = self._active, self._pending
        if segment is None or not batch:
            await self._run(lambda: None, lambda _: None)
            return
        self._pending = []
        frames = b"".join(each.frames for each in batch)
        work = partial(_write, segment, frames, segment.end - len(frames))
        await self._run(work, partial(self._became_durable, batch))

    def unreceipted(self, after: int, limit: int) -> list[Stored]:
        """Return up to `limit` durable bundles beyond position `after` (-1: from the first), ascending.

        One that cannot be read any more is told to `on_damage`, left out, and stays where it is.
        """
        found: list[Stored] = []
        for segment, first, last in self._shelf.waiting(after):
            for index in range(first, last + 1):
                if len(found) >= limit:
                    return found
                with suppress(OutboxDamagedError):
                    found.append(_describe(segment.base + index, self._read(segment, index)))
        return found

    def load(self, stored: Stored) -> bytes:
        """Return a bundle's wire bytes.

        Raises `OutboxDamagedError` if they cannot be read any more, or a receipt let them go meanwhile.
        """
        if (place := self._shelf.at(stored.position)) is None:
            raise OutboxDamagedError(f"bundle {stored.link.no} is not held any more")
        segment, index = place
        return self._read(segment, index).bundle

    @property
    def newest(self) -> int:
        """Position of the newest durable bundle, receipted or not; -1 if there is none."""
        return self._shelf.durable - 1

    async def wait(self, after: int) -> None:
        """Return as soon as a durable bundle lies beyond position `after`."""
        while self.newest <= after:
            await self._grown.wait()

    def apply(self, receipt: Receipt) -> Applied:
        """Note what a receipt covers, after checking it against what was written here.

        Segments that are receipted whole go once they take more than half the capacity, the oldest first; never the
        newest, and none with something unreadable in it. A range whose last bundle is not held any more is passed over.
        Raises `ReceiptError` for a store that speaks of the past or does not count, and `OutboxWriteError` once a write
        has failed.
        """
        self._disk.check()
        changes = self._book.changes
        resend = self._book.admit(receipt.store, receipt.counter, time.monotonic())
        bundles = mismatched = 0
        covered: list[ReceiptRange] = []
        for named in receipt.ranges:
            digest = self._hash_of(named.chain, named.last)
            if digest not in {None, named.hash} or not 0 <= named.first <= named.last:
                mismatched += 1
            elif digest is not None:
                waited = self._shelf.count_uncovered(named)
                self._book.cover(receipt.store, named)
                bundles += waited - self._shelf.count_uncovered(named)
                covered += self._book.covered(named)
        if bundles:
            self._trim()
        if changes != self._book.changes:
            self._save_book(durable=True)
        elif time.monotonic() - self._book_saved_s >= _BOOK_INTERVAL_S:
            self._save_book(durable=False)
        return Applied(bundles, mismatched, resend, tuple(covered))

    def stats(self) -> OutboxStats:
        """Return the outbox at a glance."""
        waiting = list(self._shelf.waiting(-1))
        oldest = self.unreceipted(-1, 1)
        segments = self._shelf.segments
        return OutboxStats(
            bundles=sum(last - first + 1 for _, first, last in waiting),
            bytes=sum(segment.extent(first, last) for segment, first, last in waiting),
            oldest_ms=oldest[0].from_ms if oldest else None,
            segments=len(segments),
            disk_bytes=sum(segment.size for segment in segments),
            missing=self._missing(),
        )

    def close(self) -> None:
        """Let everything go; what was appended and not synced is forgotten. Never raises."""
        self._save_book(durable=True)
        self._retire()
        self._disk.close()
        os.close(self._lock)

    def _recover(self) -> None:
        for unfinished in self._directory.glob("*.tmp"):
            unfinished.unlink()
        paths = segment_paths(self._directory)
        if paths:
            settle(paths[-1])
        before: Segment | None = None
        for path in paths:
            segment, state = Segment.recover(path, self._memory, before)
            if state is not None:
                self._book.believe(state)
            self._shelf.add(segment)
            self._shelf.durable += segment.count
            before = segment
        self._numbers = count(1 if before is None else before.number + 1)

    def _plan_segment(self) -> Callable[[], Segment]:
        held = sum(each.end if each is self._active else each.size for each in self._shelf.segments)
        if held + self._segment_bytes > self._capacity_bytes:
            raise OutboxFullError(
                f"the outbox holds {held} bytes that no receipt covers: restore the uplink, or raise"
                f" outbox.capacity_bytes = {self._capacity_bytes}"
            )
        path = segment_path(self._directory, next(self._numbers))
        return partial(Segment.create, path, self._segment_bytes, self._memory.snapshot(self._book.state))

    def _begin(self, segment: Segment) -> None:
        self._retire()
        self._shelf.add(segment)
        self._active = segment

    def _retire(self) -> None:
        if self._active is not None:
            self._active.size = self._active.end
            self._disk.submit(self._active.finish)
            self._active = None

    def _trim(self) -> None:
        removable = list(self._shelf.removable())
        excess = sum(segment.size for segment in removable) - self._capacity_bytes // 2
        for segment in removable:
            if excess <= 0:
                break
            excess -= segment.size
            self._delete(segment)

    def _delete(self, segment: Segment) -> None:
        self._shelf.remove(segment)
        self._disk.submit(partial(delete_file, segment.path))

    def _hash_of(self, chain: bytes, no: int) -> bytes | None:
        """Return the hash of a bundle that was written here; None if it cannot be known any more, b"" if none was."""
        head = self._memory.head
        if head is not None and head.chain == chain and no > head.no:
            return b""
        if (place := self._shelf.find(chain, no)) is not None:
            with suppress(OutboxDamagedError):
                return decode_trailer(self._read(*place).trailer).link.hash
        return self._book.hash_of(chain, no)

    def _read(self, segment: Segment, index: int) -> Frame:
        try:
            return segment.read(index)
        except OutboxDamagedError:
            if (position := segment.base + index) not in self._unreadable:
                self._unreadable.add(position)
                self.on_damage(self._missing())
            raise

    def _missing(self) -> int:
        return sum(segment.missing for segment in self._shelf.segments) + len(self._unreadable)

    def _save_book(self, *, durable: bool) -> None:
        self._book_saved_s = time.monotonic()
        self._disk.submit(partial(replace_file, self._directory / _BOOK, self._book.encode(), durable=durable))

    def _became_durable(self, batch: Sequence[_Appended], seconds: float) -> None:
        for each in batch:
            self._memory.note(each.link, each.cursors)
        self._shelf.durable += len(batch)
        self.on_fsync(seconds)
        self._grown.set()
        self._grown = asyncio.Event()

    async def _run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do `work` in the disk's thread, then `done` here, even if the caller is cancelled meanwhile."""
        future = asyncio.wrap_future(self._disk.submit(work))

        def settled(finished: asyncio.Future[T]) -> None:
            if finished.exception() is None:
                done(finished.result())

        future.add_done_callback(settled)
        await asyncio.shield(future)


def list_bundles(directory: Path) -> list[tuple[Link, tuple[StreamSpan, ...]]]:
    """Return every bundle in an outbox that nobody holds open, in order, and change nothing.

    Raises `OutboxError`, and `MalformedError` for what a later version wrote.
    """
    try:
        return [(each.link, each.spans) for path in segment_paths(directory) for each in read_trailers(path)]
    except OSError as error:
        raise OutboxError(f"{directory}: cannot be read: {error}") from error


def _describe(position: int, frame: Frame) -> Stored:
    trailer = decode_trailer(frame.trailer)
    return Stored(
        position=position,
        link=trailer.link,
        size=len(frame.bundle),
        count=sum(span.count for span in trailer.spans),
        from_ms=min((span.from_ms for span in trailer.spans), default=0),
    )


def _write(segment: Segment, frames: bytes, offset: int) -> float:
    started_s = time.perf_counter()
    segment.write(frames, offset)
    return time.perf_counter() - started_s


def _read_book(path: Path) -> Receipted:
    try:
        return Receipted.decode(read_bytes(path, 0, path.stat().st_size))
    except FileNotFoundError:
        return Receipted()
