"""CGM Specific Ops Control Point (0x2AAC; CGMS 1.0.2, 3.8): settings, calibration and session of a continuous monitor.

A gateway that only collects sends none of the operations that change anything.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from gateway.errors import DecodeError
from gateway.health.crc import split_crc, with_crc
from gateway.health.measurement import SFLOAT, U8, U16, Fields, Measurement, layout, on_wire, put
from gateway.health.sfloat import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Measurement):
    """An operation without operand: get a setting, start or stop the session, reset the alert."""

    FLAGS_OCTETS: ClassVar[int] = 0

    op: int
    crc: int | None = field(default=None, compare=False)

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> "Operation":
        """Read `value` as what its opcode says. Raises `DecodeError`, unlike elsewhere also for unknown opcodes."""
        kind = _KINDS.get(value[0]) if value else None
        if kind is None:
            raise DecodeError("there is no such opcode")
        octets, crc = split_crc(value, 1 + layout(kind, 0).size, present=e2e_crc)
        return kind.parse(octets[1:], op=octets[0], crc=crc)

    def encode(self, *, e2e_crc: bool = False) -> bytes:
        """Opcode and operand, with a CRC if asked for."""
        octets = bytes((self.op,)) + Measurement.encode(self)
        return with_crc(octets) if e2e_crc else octets

    def fields(self) -> Fields:
        """Opcode, operand and CRC."""
        out: Fields = {"op": self.op} | Measurement.fields(self)
        put(out, "crc", self.crc)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Operation):
    """Set, or answer, the interval between measurements; 0: none by itself, 255: as fast as can be."""

    interval_min: int = on_wire(U8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(Operation):
    """Set, or answer, a calibration value. Times count from the session's start."""

    cal_mg_dl: Number = on_wire(SFLOAT)
    cal_time_min: int = on_wire(U16)
    sample_type: int = on_wire(U8, nibbles=("type", "location"))
    next_cal_min: int = on_wire(U16)
    record: int = on_wire(U16)
    cal_status: int = on_wire(U8)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCalibration(Operation):
    """Ask for a calibration record; 0xFFFF: the newest."""

    record: int = on_wire(U16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(Operation):
    """Set, or answer, an alert's level, mg/dL, or rate, mg/dL/min."""

    level: Number = on_wire(SFLOAT)

    def fields(self) -> Fields:
        """The level is called after what it limits."""
        out: Fields = {"op": self.op}
        put(out, _LEVEL_NAMES[self.op], self.level)
        put(out, "crc", self.crc)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Operation):
    """How the request with opcode `request` went; both are kept as sent, known or not."""

    request: int = on_wire(U8)
    code: int = on_wire(U8)


_LEVELS: Final = ("patient_high", "patient_low", "hypo", "hyper", "rate_dec", "rate_inc")
_FIRST_LEVEL: Final = 7
_SET, _GET, _ANSWER = range(3)
_LEVEL_NAMES: Final = {
    _FIRST_LEVEL + 3 * at + step: name for at, name in enumerate(_LEVELS) for step in (_SET, _ANSWER)
}
_RESET_ALERT, _START, _STOP, _RESPONSE = 25, 26, 27, 28

_KINDS: Final[dict[int, type[Operation]]] = {
    1: Interval,
    2: Operation,
    3: Interval,
    4: Calibration,
    5: GetCalibration,
    6: Calibration,
    **dict.fromkeys(_LEVEL_NAMES, Level),
    **{_FIRST_LEVEL + 3 * at + _GET: Operation for at in range(len(_LEVELS))},
    _RESET_ALERT: Operation,
    _START: Operation,
    _STOP: Operation,
    _RESPONSE: Response,
}

CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2AAC: Operation}
