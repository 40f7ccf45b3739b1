"""Record Access Control Point (0x2A52): how stored records are counted, fetched and aborted (GLS 1.0.1, CGMS 1.0.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from gateway.errors import DecodeError
from gateway.health.date_time import DateTime, decode_date_time, encode_date_time
from gateway.health.measurement import Fields, Measurement


class Opcode(IntEnum):
    """The first octet."""

    REPORT = 1
    DELETE = 2
    ABORT = 3
    REPORT_NUMBER = 4
    NUMBER_RESPONSE = 5
    RESPONSE = 6
    COMBINED_REPORT = 7
    COMBINED_RESPONSE = 8


class Operator(IntEnum):
    """The second octet: which records a request means."""

    NULL = 0
    ALL = 1
    UP_TO = 2
    FROM = 3
    RANGE = 4
    OLDEST = 5
    NEWEST = 6


class Filter(IntEnum):
    """What an operand compares."""

    SEQUENCE = 1
    """Sequence number (GLS) or time offset in minutes (CGMS), 16 bits."""
    TIME = 2
    """User-facing time, Date Time."""


class Code(IntEnum):
    """How a request went."""

    SUCCESS = 1
    OPCODE_NOT_SUPPORTED = 2
    INVALID_OPERATOR = 3
    OPERATOR_NOT_SUPPORTED = 4
    INVALID_OPERAND = 5
    NO_RECORDS = 6
    ABORT_UNSUCCESSFUL = 7
    NOT_COMPLETED = 8
    OPERAND_NOT_SUPPORTED = 9
    BUSY = 10


Operand = int | DateTime

_REQUESTS: Final = (Opcode.REPORT, Opcode.DELETE, Opcode.REPORT_NUMBER, Opcode.COMBINED_REPORT)
_NUMBERS: Final = (Opcode.NUMBER_RESPONSE, Opcode.COMBINED_RESPONSE)
_OPERANDS: Final = {Operator.UP_TO: 1, Operator.FROM: 1, Operator.RANGE: 2}
_U16, _U32 = 2, 4
_SEQUENCE_OCTETS: Final = _U16
_TIME_OCTETS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure(Measurement):
    """Anything that is written to the control point or that it indicates."""

    FLAGS_OCTETS: ClassVar[int] = 0

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> "Procedure":  # noqa: ARG003 - never has one
        """Read `value` as what its first octet says. Raises `DecodeError`."""
        return decode(value)


@dataclass(frozen=True, slots=True)
class Request(Procedure):
    """Report, delete or count the records that operator and operands select.

    `operands`: sequence numbers, times, or for an unknown `filter` the octets as they are.
    """

    op: Opcode
    operator: Operator
    filter: int | None = None
    operands: tuple[Operand, ...] = ()

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """Two octets, and filter and operands where there are any."""
        head = bytes((self.op, self.operator))
        return head if self.filter is None else head + bytes((self.filter,)) + self._operand_octets()

    def _operand_octets(self) -> bytes:
        width = _SEQUENCE_OCTETS if self.filter == Filter.SEQUENCE else 1
        return b"".join(
            encode_date_time(each) if isinstance(each, DateTime) else each.to_bytes(width, "little")
            for each in self.operands
        )

    def fields(self) -> Fields:
        """Times as ISO 8601."""
        out: Fields = {"op": int(self.op), "operator": int(self.operator)}
        if self.filter is None:
            return out
        operand = [each.isoformat() if isinstance(each, DateTime) else each for each in self.operands]
        return out | {"filter": self.filter, "operand": operand}


@dataclass(frozen=True, slots=True)
class Abort(Procedure):
    """End the procedure that runs."""

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """Two octets."""
        return bytes((Opcode.ABORT, Operator.NULL))

    def fields(self) -> Fields:
        """The two octets."""
        return {"op": int(Opcode.ABORT), "operator": int(Operator.NULL)}


@dataclass(frozen=True, slots=True)
class NumberOfRecords(Procedure):
    """How many records a request selects, or a combined report has sent."""

    count: int
    op: Opcode = Opcode.NUMBER_RESPONSE

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """Four octets; six if the count does not fit."""
        width = _U16 if self.count < 1 << 16 else _U32
        return bytes((self.op, Operator.NULL)) + self.count.to_bytes(width, "little")

    def fields(self) -> Fields:
        """The count."""
        return {"op": int(self.op), "operator": int(Operator.NULL), "count": self.count}


@dataclass(frozen=True, slots=True)
class Response(Procedure):
    """How the request with opcode `request` went; both are kept as sent, known or not."""

    request: int
    code: int

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """Four octets."""
        return bytes((Opcode.RESPONSE, Operator.NULL, self.request, self.code))

    def fields(self) -> Fields:
        """Request and code."""
        head = {"op": int(Opcode.RESPONSE), "operator": int(Operator.NULL)}
        return head | {"request": self.request, "code": self.code}


def decode(value: bytes) -> Procedure:
    """What `value` of 0x2A52 says. Raises `DecodeError`; unlike elsewhere also for opcodes and operators not known."""
    try:
        op, operator = Opcode(value[0]), Operator(value[1])
    except (IndexError, ValueError):
        raise DecodeError("there is no such opcode or operator") from None
    operand = value[2:]
    if op in _REQUESTS:
        return _request(op, operator, operand)
    if operator is not Operator.NULL:
        raise DecodeError(f"opcode {op:d} takes no operator")
    if op is Opcode.ABORT:
        _demand(operand, 0)
        return Abort()
    if op is Opcode.RESPONSE:
        _demand(operand, 2)
        return Response(operand[0], operand[1])
    # The services of today count in 16 bits; newer ones may in 32.
    _demand(operand, _U32 if len(operand) == _U32 else _U16)
    return NumberOfRecords(int.from_bytes(operand, "little"), op)


def _request(op: Opcode, operator: Operator, operand: bytes) -> Request:
    if operator is Operator.NULL:
        raise DecodeError(f"opcode {op:d} needs an operator")
    count = _OPERANDS.get(operator, 0)
    if count == 0:
        _demand(operand, 0)
        return Request(op, operator)
    if not operand:
        raise DecodeError("the operand is missing")
    kind, octets = operand[0], operand[1:]
    match kind:
        case Filter.SEQUENCE:
            return Request(op, operator, kind, _each(octets, count, _SEQUENCE_OCTETS, _sequence))
        case Filter.TIME:
            return Request(op, operator, kind, _each(octets, count, _TIME_OCTETS, decode_date_time))
    if not octets or len(octets) % count:
        raise DecodeError(f"{len(octets)} octets are not {count} operands")
    return Request(op, operator, kind, tuple(octets))


def _sequence(octets: bytes) -> int:
    return int.from_bytes(octets, "little")


def _each(octets: bytes, count: int, width: int, read: Callable[[bytes], Operand]) -> tuple[Operand, ...]:
    _demand(octets, count * width)
    return tuple(read(octets[at : at + width]) for at in range(0, len(octets), width))


def _demand(operand: bytes, octets: int) -> None:
    if len(operand) != octets:
        raise DecodeError(f"an operand of {len(operand)} octets where {octets} are due")


def encode_request(op: Opcode, *, first: int | None = None) -> bytes:
    """Ask for all records, or for those whose sequence number (or time offset) is `first` or higher."""
    if first is None:
        return Request(op, Operator.ALL).encode()
    return Request(op, Operator.FROM, Filter.SEQUENCE, (first,)).encode()


def encode_abort() -> bytes:
    """End the procedure that runs."""
    return Abort().encode()


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A52: Procedure}
