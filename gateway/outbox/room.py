"""Room for the next segment: it is allocated ahead, so that there is always a place to tell what has to go."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.errors import OutboxFullError
from gateway.model import Lane
from gateway.outbox.disk import Disk
from gateway.outbox.files import Files
from gateway.outbox.log import Log
from gateway.outbox.segment import Segment, allocate

_SPARE = "spare"


class Room:
    """What the outbox may take of the disk, and what has to go for it.

    `capacity_bytes` bound all segments and the spare one; one more segment's room is kept for telling what is deleted.
    `reserve_bytes` are left free for others on this file system: beyond that a segment only takes another's place.
    """

    def __init__(
        self,
        directory: Path,
        logs: Mapping[Lane, Log],
        *,
        disk: Disk,
        files: Files,
        segment_bytes: int,
        capacity_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self.ready = False
        """The next segment's room is allocated."""
        self._path = directory / _SPARE
        self._logs = logs
        self._disk = disk
        self._files = files
        self._segment_bytes = segment_bytes
        self._capacity_bytes = capacity_bytes
        self._reserve_bytes = reserve_bytes
        self._freed_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What segments and spare room take of the disk."""
        segments = sum(segment.size for log in self._logs.values() for segment in log.shelf.segments)
        return segments + (self._segment_bytes if self.ready else 0)

    def left_bytes(self, waiting_bytes: int) -> int:
        """Return what may be appended to `waiting_bytes` before something has to go that is not receipted.

        Others fill the disk, too: what it has left counts besides what was configured. Raises `OSError`.
        """
        free_bytes = self._files.free_bytes(self._path.parent) - self._reserve_bytes
        whole_bytes = min(self._capacity_bytes, self.held_bytes + max(0, free_bytes))
        return max(0, whole_bytes - 2 * self._segment_bytes - waiting_bytes)

    def begin(self) -> None:
        """Begin the data lane's first segment, with the room that an earlier process left if it did.

        Raises `OutboxFullError`, `OSError`.
        """
        if self._files.exists(self._path) and self._files.size(self._path) == self._segment_bytes:
            self.ready = True
        else:
            self._disk.do(self._allocate)
        log = self._logs[Lane.DATA]
        log.begin(self._disk.do(self.take(log)))

    def take(self, log: Log) -> Callable[[], Segment]:
        """Return the work that makes a lane's next segment of the spare room."""
        self.ready = False
        return log.create(self._path, self._segment_bytes)

    async def prepare(self, *, to_roll: bool) -> None:
        """Allocate the next segment's room; segments that are receipted whole make way, the oldest first.

        Raises `OutboxFullError` where that is not enough, and `OutboxWriteError`.
        """
        while not self.ready:
            try:
                self._check_capacity(self._capacity_bytes - (0 if to_roll else self._segment_bytes))
                await self._disk.run(self._allocate, self._allocated)
            except OutboxFullError:
                if not self._delete_receipted():
                    raise

    def victim(self) -> tuple[Log, Segment] | None:
        """Return the segment that has to go although it is not receipted: the oldest, data before urgent."""
        for lane in reversed(Lane):
            log = self._logs[lane]
            for segment in log.shelf.segments[:-1]:
                if segment.runs:
                    return log, segment
        return None

    def trim(self) -> None:
        """Let receipted segments go that take more than half the capacity."""
        logs = [self._logs[lane] for lane in reversed(Lane)]
        removable = [(log, segment) for log in logs for segment in log.shelf.removable()]
        excess = sum(segment.size for _, segment in removable) - self._capacity_bytes // 2
        for log, segment in removable:
            if excess <= 0:
                break
            excess -= segment.size
            self.delete(log, segment)

    def delete(self, log: Log, segment: Segment) -> None:
        """Delete a segment for good; another may take its place."""
        self._freed_bytes += segment.size
        log.delete(segment)

    def _delete_receipted(self) -> bool:
        """Let the oldest segment go that is receipted whole, data before urgent, damaged ones last; False: none is."""
        for damaged in (False, True):
            for lane in reversed(Lane):
                log = self._logs[lane]
                for segment in log.shelf.removable(damaged=damaged):
                    self.delete(log, segment)
                    return True
        return False

    def _check_capacity(self, limit_bytes: int) -> None:
        """Without a present data segment nothing could be told: then it may be exceeded."""
        if self._logs[Lane.DATA].active and self.held_bytes + self._segment_bytes > limit_bytes:
            raise OutboxFullError(
                f"the outbox holds {self.held_bytes} bytes: restore the uplink, or raise"
                f" outbox.capacity_bytes = {self._capacity_bytes}",
                short_of="capacity",
            )

    def _allocate(self) -> None:
        """In the disk's thread. Raises `OutboxFullError`, `OSError`."""
        replaces = self._freed_bytes >= self._segment_bytes or not self._logs[Lane.DATA].active
        free_bytes = self._files.free_bytes(self._path.parent)
        if not replaces and free_bytes - self._segment_bytes < self._reserve_bytes:
            raise OutboxFullError(
                f"{self._path.parent}: {free_bytes} bytes are free, and outbox.reserve_bytes = {self._reserve_bytes}"
                " have to stay so: free space on this file system"
            )
        allocate(self._files, self._path, self._segment_bytes)

    def _allocated(self, _: None) -> None:
        self.ready = True
        self._freed_bytes = max(0, self._freed_bytes - self._segment_bytes)
