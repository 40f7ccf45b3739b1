"""Record Access Control Point (0x2A52), the collector's side: fetch what a wearable has stored, and know if it is all.

Sans-IO: the caller writes the bytes it is given, feeds indications and records, and says what time it is. One transfer
asks how many records there are from `first` on, then for the records, and counts again, because records that are made
meanwhile come in between and would stand in for others. It is complete only if the wearable says "success" and sent at
least as many as either count. It never deletes. (GLS 1.0.1, CGMS 1.0.2: section 3.)
"""

from collections.abc import Hashable
from enum import Enum, auto

from gateway.errors import DecodeError, ProcedureError
from gateway.health import racp

_ABORT_S = 5.0
_SPARE = 100
"""Records beyond twice the announced number before a wearable counts as never ending."""
_CANNOT_SELECT = (
    racp.Code.INVALID_OPERATOR,
    racp.Code.OPERATOR_NOT_SUPPORTED,
    racp.Code.INVALID_OPERAND,
    racp.Code.OPERAND_NOT_SUPPORTED,
)


class _State(Enum):
    IDLE = auto()
    COUNTING = auto()
    REPORTING = auto()
    RECOUNTING = auto()
    ABORTING = auto()
    ENDED = auto()


class Transfer:
    """One backfill. `first`: the lowest sequence wanted, None for all; `timeout_s`: how long silence is borne.

    Feed `begin`, then `indicated`, `recorded` and `expired` as things happen, until `ended`; `check` then tells whether
    the transfer is complete. Times are seconds of any clock that never goes back.
    """

    def __init__(self, *, first: int | None, timeout_s: float) -> None:
        self._first = first
        self._timeout_s = timeout_s
        self._state = _State.IDLE
        self._announced = 0
        self._received = 0
        self._records: set[Hashable] = set()
        self._failure: str | None = None
        self.deadline = 0.0
        """When `expired` must be called, unless something is fed before."""
        self.cannot_select = False
        """It failed because the wearable knows no request for records from a number on: ask for all."""

    @property
    def ended(self) -> bool:
        """Nothing more will come or is to be written."""
        return self._state is _State.ENDED

    @property
    def count(self) -> int:
        """How many different records came."""
        return len(self._records)

    def begin(self, now: float) -> bytes:
        """What to write first."""
        return self._count(_State.COUNTING, now)

    def recorded(self, key: Hashable, now: float) -> bytes | None:
        """A record has come; `key` tells it from others. Returns what to write, if anything."""
        if self._state not in (_State.REPORTING, _State.RECOUNTING):
            return None
        self.deadline = now + self._timeout_s
        self._records.add(key)
        self._received += 1
        if self._received > 2 * self._announced + _SPARE:
            return self._abort(f"announced {self._announced} records and does not stop", now)
        return None

    def indicated(self, value: bytes, now: float) -> bytes | None:
        """The control point has answered. Returns what to write next, if anything."""
        if self._state in (_State.IDLE, _State.ENDED):
            return None
        try:
            answer = racp.decode(value)
        except DecodeError as error:
            return None if self._state is _State.ABORTING else self._abort(str(error), now)
        match answer:
            case racp.NumberOfRecords(count, racp.Opcode.NUMBER_RESPONSE) if self._state is _State.COUNTING:
                return self._announce(count, now)
            case racp.NumberOfRecords(count, racp.Opcode.NUMBER_RESPONSE) if self._state is _State.RECOUNTING:
                self._compare(max(count, self._announced))
            case racp.Response(racp.Opcode.REPORT_NUMBER, code) if self._state is _State.COUNTING:
                return self._count_answered(code, now)
            case racp.Response(racp.Opcode.REPORT_NUMBER, code) if self._state is _State.RECOUNTING:
                self._end(f"will not count its records again: response code {code}")
            case racp.Response(racp.Opcode.REPORT, code) if self._state is _State.REPORTING:
                return self._report_answered(code, now)
            case racp.Response(racp.Opcode.ABORT, _) if self._state is _State.ABORTING:
                self._state = _State.ENDED
        return None

    def expired(self, now: float) -> bytes | None:
        """The deadline may have passed. Returns what to write, if anything."""
        if self.ended or now < self.deadline:
            return None
        if self._state is _State.ABORTING:
            self._state = _State.ENDED
            return None
        return self._abort(f"silent for {self._timeout_s:g} s", now)

    def check(self) -> None:
        """Return if every announced record came. Raises `ProcedureError` that says why not."""
        if not self.ended:
            raise ProcedureError("the transfer was cut short")
        if self._failure:
            raise ProcedureError(self._failure)

    def _announce(self, count: int, now: float) -> bytes | None:
        self._announced = count
        if count == 0:
            self._state = _State.ENDED
            return None
        self._enter(_State.REPORTING, now)
        return racp.encode_request(racp.Opcode.REPORT, first=self._first)

    def _count_answered(self, code: int, now: float) -> bytes | None:
        if code == racp.Code.NO_RECORDS:
            return self._announce(0, now)
        self.cannot_select = self._first is not None and code in _CANNOT_SELECT
        self._end(f"will not count its records: response code {code}")
        return None

    def _report_answered(self, code: int, now: float) -> bytes | None:
        if code == racp.Code.SUCCESS:
            return self._count(_State.RECOUNTING, now)
        self.cannot_select = self._first is not None and code in _CANNOT_SELECT
        self._end(f"did not send its records: response code {code}")
        return None

    def _compare(self, announced: int) -> None:
        if self.count < announced:
            self._end(f"announced {announced} records and sent {self.count}")
        else:
            self._state = _State.ENDED

    def _count(self, state: _State, now: float) -> bytes:
        self._enter(state, now)
        return racp.encode_request(racp.Opcode.REPORT_NUMBER, first=self._first)

    def _abort(self, failure: str, now: float) -> bytes:
        self._failure = failure
        self._state = _State.ABORTING
        self.deadline = now + _ABORT_S
        return racp.encode_abort()

    def _enter(self, state: _State, now: float) -> None:
        self._state = state
        self.deadline = now + self._timeout_s

    def _end(self, failure: str) -> None:
        self._failure = failure
        self._state = _State.ENDED
