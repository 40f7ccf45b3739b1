"""The outbox: a log of segments on disk for each lane, from which only a receiver's receipts let anything go."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from gateway.errors import OutboxDamagedError, OutboxError, OutboxFullError, OutboxLockedError
from gateway.model import Cursor, Hole, Lane, Link, Receipt, ReceiptRange, SealedBundle, StoreId, StreamSpan
from gateway.observe.progress import Pulse
from gateway.outbox.disk import Disk
from gateway.outbox.files import Files, replace_file
from gateway.outbox.log import Log, Stored
from gateway.outbox.receipted import Receipted
from gateway.outbox.room import Room
from gateway.outbox.segment import Segment, read_trailers, segment_paths
from gateway.outbox.shelf import OutboxStats

_BOOK = "receipted"
_BOOK_INTERVAL_S = 1.0
_URGENT = "urgent"


@dataclass(frozen=True, slots=True)
class Tale:
    """What has to be told in a signed record before a segment goes, or because something in it cannot be read."""

    holes: tuple[Hole, ...]
    log: Log
    segment: Segment
    evicts: bool


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


class Outbox:
    """Made by `open`. One task appends, syncs and rolls; everything else may be called at any time.

    `on_fsync` is called with the seconds that each write and fdatasync took; `on_damage` with `stats().missing`, which
    `open` may have left above 0, each time that it grows; `on_failure` with what the file system refused while nobody
    waited for it, which costs room, or redeliveries, and no bundle.
    """

    def __init__(
        self,
        directory: Path,
        lock: int,
        *,
        gateway: str,
        segment_bytes: int,
        capacity_bytes: int,
        reserve_bytes: int,
        files: Files,
    ) -> None:
        self.on_fsync: Callable[[float], None] = lambda _: None
        self.on_damage: Callable[[int], None] = lambda _: None
        self._directory = directory
        self._lock = lock
        self._files = files
        self._disk = Disk()
        self._book = read_book(files, directory)
        self._book_saved_s = time.monotonic()
        self._grown = asyncio.Event()
        self._logs = {
            lane: Log(lane, place(directory, lane), gateway=gateway, files=files, disk=self._disk, book=self._book)
            for lane in Lane
        }
        for log in self._logs.values():
            log.on_durable = self._became_durable
            log.on_damage = lambda: self.on_damage(self._missing())
        self._room = Room(
            directory,
            self._logs,
            disk=self._disk,
            files=files,
            segment_bytes=segment_bytes,
            capacity_bytes=capacity_bytes,
            reserve_bytes=reserve_bytes,
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        gateway: str,
        segment_bytes: int,
        capacity_bytes: int,
        reserve_bytes: int = 0,
        after: Mapping[Lane, Link] | None = None,
        files: Files | None = None,
    ) -> "Outbox":
        """Lock the outbox, recover what earlier processes left by scanning it, and begin a segment of its own.

        A lane that holds nothing yet begins after the bundle that `after` names for it: of a box before this one.

        Raises `OutboxLockedError`, `OutboxError` where the directory cannot be read or holds a segment of another
        gateway. Where no segment can be made it opens all the same, so that the backlog can leave; `roll` then says
        what is wrong.
        """
        files = files or Files()
        with ExitStack() as undo:
            try:
                lock = files.lock(directory / "lock")
                undo.callback(files.close, lock)
                outbox = cls(
                    directory,
                    lock,
                    gateway=gateway,
                    segment_bytes=segment_bytes,
                    capacity_bytes=capacity_bytes,
                    reserve_bytes=reserve_bytes,
                    files=files,
                )
                undo.callback(outbox._disk.close)
                for lane, log in outbox._logs.items():
                    files.make_directory(place(directory, lane))
                    log.recover((after or {}).get(lane))
            except BlockingIOError as error:
                raise OutboxLockedError(f"{directory}: another process holds this outbox: stop it first") from error
            except OSError as error:
                raise OutboxError(f"{directory}: cannot be opened: {error}") from error
            with suppress(OutboxFullError, OSError):
                outbox._room.begin()
            undo.pop_all()
        return outbox

    @property
    def pulse(self) -> Pulse:
        """Of the thread that writes: late while one write or sync takes its time."""
        return self._disk.pulse

    @property
    def on_failure(self) -> Callable[[OSError], None]:
        """See the class; called in any thread."""
        return self._disk.on_failure

    @on_failure.setter
    def on_failure(self, tell: Callable[[OSError], None]) -> None:
        self._disk.on_failure = tell

    def head(self, lane: Lane = Lane.DATA) -> Link | None:
        """Return the newest durable bundle of a lane: what a chain opened now names as its predecessor."""
        return self._logs[lane].memory.head

    @property
    def cursors(self) -> Mapping[str, Cursor]:
        """How far each device's stored records are durable here, by device."""
        return MappingProxyType(self._logs[Lane.DATA].memory.cursors)

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

    def fits(self, lane: Lane = Lane.DATA) -> bool:
        """Whether the largest bundle, written twice, still fits in a lane's present segment; if not, roll."""
        return self._logs[lane].fits()

    def unplaced(self, lane: Lane = Lane.DATA) -> bool:
        """Whether something that was appended waits for another segment; if so, roll."""
        return self._logs[lane].unplaced

    async def roll(self, lane: Lane = Lane.DATA) -> None:
        """Finish a lane's segment, which makes everything appended durable, and begin the next.

        What a segment that failed did not keep is appended to the new one, the same bytes, and still has to be synced.
        Raises `OutboxFullError` where there is no room before a `tale` has been told, and `OutboxWriteError`; nothing
        is lost then, and it may be tried again.
        """
        log = self._logs[lane]
        await log.settle()
        await self._room.prepare(to_roll=True)
        log.retire()
        await self._disk.run(self._room.take(log), log.begin)

    async def tale(self) -> Tale | None:
        """Return what has to be told next, if anything; call it after every sync, and `conclude` what was told.

        Damage comes first. Then room for the next segment is made: of what is receipted, else the oldest segment has
        to go, urgent ones last. Raises `OutboxWriteError`.
        """
        for log in self._logs.values():
            if (found := log.untold_damage()) is not None:
                return Tale(found[1], log, found[0], evicts=False)
        try:
            await self._room.prepare(to_roll=False)
        except OutboxFullError as error:
            if (victim := self._room.victim()) is not None:
                log, segment = victim
                return Tale(await self._disk.ask(log.lost_with(segment, error.short_of)), log, segment, evicts=True)
        return None

    def conclude(self, tale: Tale) -> None:
        """Do what has been told, durably, of all holes of `tale`."""
        if tale.evicts:
            self._room.delete(tale.log, tale.segment)
        else:
            tale.log.was_told(tale.segment, tale.holes)

    def append(
        self,
        bundle: SealedBundle,
        cursors: Sequence[Cursor] = (),
        told: Sequence[Hole] = (),
        *,
        lane: Lane = Lane.DATA,
    ) -> None:
        """Give a bundle the next place of its lane. It is not durable, and not seen by anybody, before `sync`.

        `told` are the holes that the bundle tells of. Cursors belong into the data lane. Raises `OutboxFullError` where
        it does not fit in this segment.
        """
        self._logs[lane].append(bundle, cursors, told)

    async def sync(self, lane: Lane = Lane.DATA) -> None:
        """Make everything appended to a lane so far durable, with one fdatasync in a thread.

        If the caller is cancelled the sync still runs to its end. Raises `OutboxWriteError`: then nothing is written to
        this segment any more, and what was in flight waits for the next: roll, and sync.
        """
        await self._logs[lane].sync()

    def unreceipted(self, after: int, limit: int, lane: Lane = Lane.DATA) -> list[Stored]:
        """Return up to `limit` durable bundles of a lane beyond position `after` (-1: from the first), ascending.

        One that cannot be read any more is told to `on_damage`, left out, and stays where it is.
        """
        return self._logs[lane].unreceipted(after, limit)

    def load(self, stored: Stored) -> bytes:
        """Return a bundle's wire bytes.

        Raises `OutboxDamagedError` if they cannot be read any more, or a receipt let them go meanwhile.
        """
        log = self._logs[stored.lane]
        if (place := log.shelf.at(stored.position)) is None:
            raise OutboxDamagedError(f"bundle {stored.link.no} is not held any more")
        return log.read(*place).bundle

    def newest(self, lane: Lane = Lane.DATA) -> int:
        """Return the position of a lane's newest durable bundle, receipted or not; if there is none, one less."""
        return self._logs[lane].shelf.durable - 1

    def segment_start(self, lane: Lane = Lane.DATA) -> int:
        """Return the position that the first bundle of a lane's present segment has, or will have.

        Those before it need no keys of those from it on, and the other way round.
        """
        return self._logs[lane].shelf.segments[-1].base if self._logs[lane].shelf.segments else self.newest(lane) + 1

    async def grown(self) -> None:
        """Return when something has become durable from now on, in any lane."""
        await self._grown.wait()

    def apply(self, receipt: Receipt) -> Applied:
        """Note what a receipt covers, after checking it against what was written here.

        Segments that are receipted whole go once they take more than half the capacity, the oldest first; never a
        lane's newest, and none with something unreadable in it. A range whose last bundle is not held any more is
        passed over. Raises `ReceiptError` for a store that speaks of the past or does not count.
        """
        changes = self._book.changes
        resend = self._book.admit(receipt.store, receipt.counter, time.monotonic())
        bundles = mismatched = 0
        covered: list[ReceiptRange] = []
        for named in receipt.ranges:
            digest = self._hash_of(named.chain, named.last)
            if digest not in {None, named.hash} or not 0 <= named.first <= named.last:
                mismatched += 1
            elif digest is not None:
                waited = self._count_uncovered(named)
                self._book.cover(receipt.store, named)
                bundles += waited - self._count_uncovered(named)
                covered += self._book.covered(named)
        if bundles:
            self._room.trim()
        if changes != self._book.changes:
            self._save_book(durable=True)
        elif time.monotonic() - self._book_saved_s >= _BOOK_INTERVAL_S:
            self._save_book(durable=False)
        return Applied(bundles, mismatched, resend, tuple(covered))

    def waiting(self) -> int:
        """Return how many bundles are durable and not receipted; cheaper than `stats`."""
        return sum(_count(log.waiting()) for log in self._logs.values())

    def stats(self) -> OutboxStats:
        """Return the outbox at a glance."""
        waiting = [each for log in self._logs.values() for each in log.waiting()]
        oldest = [stored.from_ms for lane in Lane for stored in self.unreceipted(-1, 1, lane)]
        segments = [segment for log in self._logs.values() for segment in log.shelf.segments]
        waiting_bytes = sum(segment.extent(first, last) for segment, first, last in waiting)
        return OutboxStats(
            bundles=_count(waiting),
            bytes=waiting_bytes,
            oldest_ms=min(oldest, default=None),
            segments=len(segments),
            disk_bytes=self._room.held_bytes,
            room_bytes=self._room.left_bytes(waiting_bytes),
            appended_bytes=sum(log.appended_bytes for log in self._logs.values()),
            missing=self._missing(),
        )

    def close(self) -> None:
        """Let everything go; what was appended and not synced is forgotten. Never raises."""
        self._save_book(durable=True)
        for log in self._logs.values():
            log.retire()
        self._disk.close()
        self._files.close(self._lock)

    def _count_uncovered(self, named: ReceiptRange) -> int:
        return sum(log.shelf.count_uncovered(named) for log in self._logs.values())

    def _hash_of(self, chain: bytes, no: int) -> bytes | None:
        """Return the hash of a bundle that was written here; None if it cannot be known any more, b"" if none was."""
        found = (log.hash_of(chain, no) for log in self._logs.values())
        return next((each for each in found if each is not None), self._book.hash_of(chain, no))

    def _missing(self) -> int:
        return sum(log.missing for log in self._logs.values())

    def _save_book(self, *, durable: bool) -> None:
        self._book_saved_s = time.monotonic()
        path, data = self._directory / _BOOK, self._book.encode()
        self._disk.submit(partial(replace_file, self._files, path, data, durable=durable))

    def _became_durable(self, seconds: float) -> None:
        self.on_fsync(seconds)
        self._grown.set()
        self._grown = asyncio.Event()


def _count(waiting: Iterable[tuple[Segment, int, int]]) -> int:
    return sum(last - first + 1 for _, first, last in waiting)


def list_bundles(directory: Path) -> list[tuple[Link, tuple[StreamSpan, ...]]]:
    """Return every bundle in an outbox that nobody holds open, lane by lane in order, and change nothing.

    Raises `OutboxError`.
    """
    files = Files()
    try:
        paths = [path for lane in Lane for path in segment_paths(files, place(directory, lane))]
        return [(each.link, each.spans) for path in paths for each in read_trailers(files, path)]
    except OSError as error:
        raise OutboxError(f"{directory}: cannot be read: {error}") from error


def place(directory: Path, lane: Lane) -> Path:
    """Return where a lane's segments lie."""
    return directory / _URGENT if lane is Lane.URGENT else directory


def read_book(files: Files, directory: Path) -> Receipted:
    """Return what receipts cover; an empty book where there is none, or a damaged one. Raises `OSError`."""
    path = directory / _BOOK
    try:
        return Receipted.decode(files.read(path, 0, files.size(path)))
    except FileNotFoundError:
        return Receipted()
