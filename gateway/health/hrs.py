"""Heart rate (service 0x180D; HRS 1.0): measurement 0x2A37, sensor location 0x2A38."""

from dataclasses import dataclass, replace
from fractions import Fraction
from struct import Struct
from typing import ClassVar, Final, Self

from gateway.errors import DecodeError
from gateway.health.measurement import U8, U16, Fields, Measurement, flag, layout, on_wire
from gateway.health.metrics import ENERGY_EXPENDED, HEART_RATE, RR_INTERVAL
from gateway.health.reading import anomaly, convert, reading
from gateway.health.sfloat import Number
from gateway.model import Reading, Reason

_RR_FLAG: Final = 1 << 4
_RR_OCTETS: Final = 2
_MS_PER_TICK: Final = Fraction(1000, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartRate(Measurement):
    """0x2A37: the rate, and the intervals between beats as far as there was room for them."""

    hr_bpm: int = on_wire(U8, variant=(0, U16))
    energy_kj: int | None = on_wire(U16, bit=3)
    """Since the last reset; it stays at 65,535 once there."""
    rr_raw: tuple[int, ...] = ()
    """Intervals between beats, 1/1024 s, oldest first."""
    wide: bool = flag(0)
    """The rate has 16 bits on the wire."""
    contact_detected: bool = flag(1)
    contact_supported: bool = flag(2)
    has_rr: bool = flag(4)

    @property
    def contact(self) -> bool | None:
        """Whether the sensor touches skin; None if it cannot tell."""
        return self.contact_detected if self.contact_supported else None

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> Self:  # noqa: ARG003 - never has one
        """Read `value`, intervals to its end. Raises `DecodeError`, also for none where there should be some."""
        size = layout(cls, value[0]).size if value else 1
        rest = value[size:]
        heart_rate = cls.parse(value[:size])
        if len(rest) % _RR_OCTETS or bool(rest) != heart_rate.has_rr:
            raise DecodeError(f"{len(rest)} octets of intervals")
        return replace(heart_rate, rr_raw=Struct(f"<{len(rest) // _RR_OCTETS}H").unpack(rest))

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """The fields, then the intervals."""
        return Measurement.encode(self) + Struct(f"<{len(self.rr_raw)}H").pack(*self.rr_raw)

    def fields(self) -> Fields:
        """Contact only if the sensor can tell, intervals only if there are some."""
        out: Fields = {"hr_bpm": self.hr_bpm}
        optional = {"contact": self.contact, "energy_kj": self.energy_kj, "rr_raw": list(self.rr_raw) or None}
        out |= {name: value for name, value in optional.items() if value is not None}
        return out | ({"rfu_flags": self.rfu_flags} if self.rfu_flags else {})

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """Rate, energy, and one reading per interval; a rate of 0 is no value."""
        reasons = anomaly([self.rfu_flags])
        if self.contact is False:
            reasons |= Reason.SIGNAL
        rate = reasons if self.hr_bpm else reasons | Reason.NO_VALUE
        values = [(HEART_RATE, Number(self.hr_bpm), rate)]
        if self.energy_kj is not None:
            values.append((ENERGY_EXPENDED, Number(self.energy_kj), reasons))
        values += [(RR_INTERVAL, convert(Number(each), _MS_PER_TICK), reasons) for each in self.rr_raw]
        return tuple(reading(m, n, device=device, time_ms=time_ms, reasons=why) for m, n, why in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorLocation(Measurement):
    """0x2A38: 0 other, 1 chest, 2 wrist, 3 finger, 4 hand, 5 ear lobe, 6 foot."""

    FLAGS_OCTETS: ClassVar[int] = 0

    value: int = on_wire(U8)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A37: HeartRate, 0x2A38: SensorLocation}
SERVICE: Final = 0x180D
COLLECTED: Final = (0x2A37,)
