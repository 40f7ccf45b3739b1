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


@dataclass(frozen=True, slots=True)
class Item:
    """What a wearable said once: readings of one record, or of one live value that it doesn't store."""

    readings: tuple[Reading, ...]
    sequence: int | None = None
    """The device's own record number; None: not stored there."""
    session: str = ""
    key: Hashable = None
    """Tells the record from all others of the device."""


class Numbering(Enum):
    """What a device's sequence means."""

    NONE = auto()
    """It stores nothing (PLX)."""
    OFFSET = auto()
    """Minutes since a session began: it has holes by nature, and a new session starts over (CGM)."""
    COUNTER = auto()
    """One more for each record, modulo 65,536; a meter that was reset starts over without saying so (GLS)."""


class Progress:
    """One connection's view of one device; `cursor` is what an earlier one left behind."""

    def __init__(self, device: str, numbering: Numbering, cursor: Cursor | None) -> None:
        self._device = device
        self._numbering = numbering
        self.cursor = cursor
        self._seen: set[Hashable] = set()
        self._highest: Cursor | None = None
        self._anchored = True
        self._first = 0
        self.complete = False
        """No hole is known: live records may move the cursor."""

    def begin(self, session: str | None) -> int | None:
        """Start a transfer; returns the first sequence to ask for, None for all.

        `session` is the one that runs now; an offset device that cannot tell it is asked for everything. A counter's
        cursor record is asked for again: if it has gone or changed, the meter was reset and everything is new.
        """
        if self._numbering is Numbering.OFFSET and self.cursor and self.cursor.session != session:
            self.cursor = None
        self.complete = False
        self._highest = None
        self._first = 0
        self._anchored = self.cursor is None or self._numbering is Numbering.OFFSET
        if self.cursor is None:
            return None
        if self._numbering is Numbering.OFFSET:
            self._first = min(self.cursor.sequence + 1, _WRAP - 1)
            return self._first
        return self.cursor.sequence if self.cursor.sequence < _NEAR_WRAP else None

    def fresh(self, item: Item) -> bool:
        """Take note of a stored record; False: it was handed on before, now or by an earlier connection.

        Raises `ProcedureError` if a session's offsets go back: it has started over, and times would be wrong.
        """
        if item.sequence is None:
            return True
        if self._numbering is Numbering.OFFSET and item.sequence < self._first:
            raise ProcedureError(f"{self._device}: its session has started over")
        here = Cursor(self._device, item.session, item.sequence)
        if self._highest is None or here.sequence > self._highest.sequence:
            self._highest = here
        if self._numbering is Numbering.COUNTER and here == self.cursor:
            self._anchored = True
            return False
        if item.key in self._seen:
            return False
        if len(self._seen) >= 2 * _WRAP:
            self._seen.clear()  # bounded memory against a device that invents records; repeating one does no harm
        self._seen.add(item.key)
        return True

    def finish(self) -> bool:
        """A transfer was complete. False: the meter was reset meanwhile, begin again with all its records."""
        if not self._anchored:
            self.cursor = None
            return False
        if self._highest and (self.cursor is None or self._highest.sequence > self.cursor.sequence):
            self._move(self._highest)
        self.complete = True
        return True

    def live(self, item: Item) -> Cursor | None:
        """A fresh record came by itself. Returns the cursor if it moves; otherwise see whether it is still `complete`.

        A hole before the record ends completeness until the next transfer.
        """
        if not self.complete or item.sequence is None:
            return None
        if not self._follows(item.sequence):
            self.complete = False
            return None
        self._move(Cursor(self._device, item.session, item.sequence))
        return self.cursor

    def _move(self, cursor: Cursor) -> None:
        self.cursor = cursor
        if self._numbering is Numbering.OFFSET:
            self._first = cursor.sequence

    def _follows(self, sequence: int) -> bool:
        """Whether no record can lie between the cursor and `sequence`; a counter's first number proves nothing."""
        if self._numbering is Numbering.OFFSET:
            return self.cursor is None or sequence >= self.cursor.sequence  # several records can share a minute
        return self.cursor is not None and sequence == (self.cursor.sequence + 1) % _WRAP
