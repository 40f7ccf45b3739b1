"""How far a wearable's stored records are safe: what to ask it for, and when the cursor may move. Sans-IO.

The cursor says "everything up to here is durable", so it moves only after a complete transfer, and then with each live
record that follows without a hole. Until then records are handed on all the same, without it: a record that is fetched
again is recognised by its identity at the far end, one that was skipped would be lost.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto

from gateway.errors import ProcedureError
from gateway.model import Cursor, Reading

_WRAP = 1 << 16
_NEAR_WRAP = _WRAP - 1024

OWN_NAME = "~"
"""What the name of a session begins with that the device cannot date, or dates wrongly; the rest is the gateway's."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a wearable said once: readings of one record, or of one live value that it doesn't store."""

    readings: tuple[Reading, ...]
    sequence: int | None = None
    """The device's own record number; None: not stored there."""
    session: str = ""
    key: Hashable = None
    """Tells the record from all others of the device."""
    new: bool = False
    """It was made after the device was last asked what it is: even during a transfer it is not of the past."""
    attached: bool = False
    """It goes with a record that is stored, and is not counted itself."""


class Numbering(Enum):
    """What a device's sequence means."""

    NONE = auto()
    """It stores nothing."""
    OFFSET = auto()
    """Minutes since a session began: it has holes by nature, and a new session starts over (CGM)."""
    COUNTER = auto()
    """One more for each record, modulo 65,536; a meter that was reset starts over without saying so (GLS)."""
    TIME = auto()
    """There is none: records are told apart by time and value, and only all can be asked for (PLX)."""


class Progress:
    """One connection's view of one device; `cursor` is what an earlier one left behind.

    `seen` are keys of records without numbers that were handed on before, and is kept up to date: no cursor can stand
    for those.
    """

    def __init__(self, device: str, numbering: Numbering, cursor: Cursor | None, seen: set[Hashable]) -> None:
        self._device = device
        self._numbering = numbering
        self.cursor = cursor
        self._seen = seen if numbering is Numbering.TIME else set()
        self._lowest: Cursor | None = None
        self._highest: Cursor | None = None
        self._anchored = True
        self._first = 0
        self.complete = False
        """No hole is known: live records may move the cursor."""

    @property
    def settled(self) -> bool:
        """All is here, and what cannot be asked for in part need not be asked for again on this connection."""
        return self.complete and self._numbering is Numbering.TIME

    def begin(self, session: str, *, everything: bool = False) -> int | None:
        """Start a transfer; returns the first sequence to ask for, None for all or if `everything` is wanted.

        `session` is the one that an offset device is in now. The cursor's record is asked for again: others can share
        its minute; if a counter's has gone or changed, the meter was reset and everything is new.
        """
        if self._numbering is Numbering.OFFSET and self.cursor and self.cursor.session != session:
            self.cursor = None
        self.complete = False
        self._lowest = self._highest = None
        self._first = 0
        self._anchored = self.cursor is None or self._numbering is Numbering.OFFSET
        if self.cursor is None or everything:
            return None
        if self._numbering is Numbering.OFFSET:
            self._first = self.cursor.sequence  # several records can share a minute
            return self._first
        # Without a date its record looks the same after a reset, and lower numbers may be new.
        doubtful = self.cursor.sequence >= _NEAR_WRAP or self.cursor.session.startswith(OWN_NAME)
        return None if doubtful else self.cursor.sequence

    def fresh(self, item: Item) -> bool:
        """Take note of a stored record; False: it was handed on before, now or by an earlier connection.

        Raises `ProcedureError` if a session's offsets go back: it has started over, and times would be wrong.
        """
        if self._numbering is Numbering.TIME:
            return item.key is None or self._unseen(item.key)
        if item.sequence is None:
            return True
        if self._numbering is Numbering.OFFSET and item.sequence < self._first:
            raise ProcedureError(f"{self._device}: its session has started over")
        here = Cursor(self._device, item.session, item.sequence)
        if self._lowest is None or self._ahead(here.sequence) < self._ahead(self._lowest.sequence):
            self._lowest = here
        if self._highest is None or self._ahead(here.sequence) > self._ahead(self._highest.sequence):
            self._highest = here
        if self._numbering is Numbering.COUNTER and here == self.cursor:
            self._anchored = True
            return False
        return self._unseen(item.key)

    def _unseen(self, key: Hashable) -> bool:
        if key in self._seen:
            return False
        if len(self._seen) >= 2 * _WRAP:
            self._seen.clear()  # bounded memory against a device that invents records; repeating one does no harm
        self._seen.add(key)
        return True

    def finish(self) -> bool:
        """A transfer was complete. False: the meter was reset meanwhile, begin again with all its records.

        A counter whose higher numbers are older counts backwards, or has just wrapped: no cursor can stand for it.
        """
        if not self._anchored:
            self.cursor = None
            return False
        self.complete = True
        if self._counts_backwards():
            self.cursor = None
        elif self._highest and (self.cursor is None or self._ahead(self._highest.sequence) > 0):
            self._move(self._highest)
        return True

    def live(self, item: Item) -> Cursor | None:
        """A fresh record came by itself. Returns the cursor if it moves; otherwise see whether it is still `complete`.

        A hole before the record ends completeness until the next transfer. A counter that goes back has been reset or
        counts backwards: then all records are wanted.
        """
        if not self.complete or item.sequence is None or self._numbering is Numbering.TIME:
            return None
        if not self._follows(item.sequence):
            self.complete = False
            if self._numbering is Numbering.COUNTER and self._ahead(item.sequence) < 0:
                self.cursor = None
            return None
        self._move(Cursor(self._device, item.session, item.sequence))
        return self.cursor

    def _counts_backwards(self) -> bool:
        if self._numbering is not Numbering.COUNTER or self._lowest is None or self._highest is None:
            return False
        dated = not (self._lowest.session + self._highest.session).count(OWN_NAME)
        return dated and self._lowest.session > self._highest.session

    def missed(self) -> None:
        """A record could not be read: there is a hole until the next transfer."""
        self.complete = False

    def _ahead(self, sequence: int) -> int:
        """How many numbers `sequence` lies beyond the cursor; a counter that has wrapped counts on."""
        if self.cursor is None:
            return sequence
        ahead = sequence - self.cursor.sequence
        return ahead if self._numbering is Numbering.OFFSET else (ahead + _WRAP // 2) % _WRAP - _WRAP // 2

    def _move(self, cursor: Cursor) -> None:
        self.cursor = cursor
        if self._numbering is Numbering.OFFSET:
            self._first = cursor.sequence

    def _follows(self, sequence: int) -> bool:
        """Whether no record can lie between the cursor and `sequence`; a counter's first number proves nothing."""
        if self._numbering is Numbering.OFFSET:
            return self.cursor is None or sequence >= self.cursor.sequence  # several records can share a minute
        return self.cursor is not None and sequence == (self.cursor.sequence + 1) % _WRAP
