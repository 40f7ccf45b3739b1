"""Blood pressure (service 0x1810; BLS 1.1): measurement 0x2A35, intermediate cuff pressure 0x2A36, feature 0x2A49."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import ClassVar, Final

from gateway.health import metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, SFLOAT, U8, U16, Measurement, flag, on_wire
from gateway.health.reading import Bits, anomaly, convert, reading, reasons_of, stamped
from gateway.health.sfloat import Number
from gateway.model import Extra, ExtraValue, Reading, Reason

_MMHG_PER_KPA: Final = Fraction("7.50062")

_STATUS: Final[Bits] = (
    (1 << 0 | 1 << 1 | 1 << 5, Reason.SIGNAL),  # body moved, cuff loose, improper position
    (0xFFC0, Reason.ANOMALY),  # reserved
)
_PULSE_RANGE_SHIFT, _PULSE_RANGE, _PULSE_RANGE_RESERVED = 3, 3, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodPressure(Measurement):
    """0x2A35: the three pressures are always there; a device that has no mean sends NaN."""

    unit: str = flag(0, values=("mmHg", "kPa"))
    systolic: Number = on_wire(SFLOAT)
    diastolic: Number = on_wire(SFLOAT)
    map: Number = on_wire(SFLOAT)
    """Mean arterial pressure."""
    timestamp: DateTime | None = on_wire(DATE_TIME, bit=1)
    pulse_bpm: Number | None = on_wire(SFLOAT, bit=2)
    user_id: int | None = on_wire(U8, bit=3)
    """255: unknown."""
    status: int | None = on_wire(U16, bit=4)

    @property
    def moment(self) -> datetime | None:
        """When it was measured by the device's clock, without zone; None if that is unknown."""
        return self.timestamp.moment if self.timestamp else None

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """The pressures, mmHg, and the pulse; no mean if the device has none."""
        pressures = [(metrics.SYSTOLIC, self.systolic), (metrics.DIASTOLIC, self.diastolic)]
        if self.map.mantissa is not None:
            pressures.append((metrics.MEAN_ARTERIAL, self.map))
        crossed = Reason.IMPLAUSIBLE if _crossed(self.systolic, self.diastolic) else Reason.NONE
        told = self._told(pressures, crossed, device=device, time_ms=time_ms)
        if self.pulse_bpm is None:
            return told
        extras = self._extras()
        del extras[Extra.UNIT]
        pulse = reading(
            metrics.BLOOD_PRESSURE_PULSE,
            self.pulse_bpm,
            device=device,
            time_ms=time_ms,
            reasons=self._reasons(),
            extras=extras,
        )
        return (*told, pulse)

    def _told(
        self, pressures: list[tuple[int, Number]], reasons: Reason, *, device: str, time_ms: int
    ) -> tuple[Reading, ...]:
        reasons |= self._reasons()
        extras = self._extras()
        return tuple(
            reading(metric, self._mmhg(number), device=device, time_ms=time_ms, reasons=reasons, extras=extras)
            for metric, number in pressures
        )

    def _mmhg(self, number: Number) -> Number:
        return number if self.unit == "mmHg" else convert(number, _MMHG_PER_KPA)

    def _reasons(self) -> Reason:
        status = self.status or 0
        pulse_range = status >> _PULSE_RANGE_SHIFT & _PULSE_RANGE
        return reasons_of(status, _STATUS) | anomaly([self.rfu_flags, pulse_range == _PULSE_RANGE_RESERVED])

    def _extras(self) -> dict[Extra, ExtraValue]:
        return stamped(self.timestamp, self.user_id) | {
            Extra.UNIT: None if self.unit == "mmHg" else "kPa",
            Extra.STATUS: self.status,
        }


def _crossed(systolic: Number, diastolic: Number) -> bool:
    """Whether the upper pressure is not above the lower one."""
    if systolic.mantissa is None or diastolic.mantissa is None:
        return False
    return systolic.mantissa * 10.0**systolic.exponent <= diastolic.mantissa * 10.0**diastolic.exponent


@dataclass(frozen=True, slots=True, kw_only=True)
class IntermediateCuffPressure(BloodPressure):
    """0x2A36: the same frame; `systolic` is the pressure in the cuff now, the other two are NaN."""

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """The pressure in the cuff, mmHg."""
        return self._told([(metrics.CUFF_PRESSURE, self.systolic)], Reason.NONE, device=device, time_ms=time_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Measurement):
    """0x2A49, bits: 0 movement, 1 cuff fit, 2 irregular pulse, 3 pulse range, 4 position, 5 multiple bonds, 6 CRC."""

    FLAGS_OCTETS: ClassVar[int] = 0

    features: int = on_wire(U16)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    0x2A35: BloodPressure,
    0x2A36: IntermediateCuffPressure,
    0x2A49: Feature,
}
SERVICE: Final = 0x1810
COLLECTED: Final = (0x2A35,)
