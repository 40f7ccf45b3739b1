"""Health thermometer (service 0x1809; HTS 1.0): measurement 0x2A1C, intermediate 0x2A1E, type 0x2A1D."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import ClassVar, Final

from gateway.health import metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, FLOAT, U8, Measurement, flag, on_wire
from gateway.health.reading import anomaly, convert, reading, stamped
from gateway.health.sfloat import Number
from gateway.model import Extra, Reading

_FREEZING_F: Final = 32
_CELSIUS_PER_F: Final = Fraction(5, 9)

_METRICS: Final = {
    1: metrics.TEMPERATURE_AXILLA,
    2: metrics.TEMPERATURE,
    3: metrics.TEMPERATURE_EAR,
    4: metrics.TEMPERATURE_FINGER,
    5: metrics.TEMPERATURE_GASTRIC,
    6: metrics.TEMPERATURE_ORAL,
    7: metrics.TEMPERATURE_RECTAL,
    8: metrics.TEMPERATURE_TOE,
    9: metrics.TEMPERATURE_TYMPANIC,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature(Measurement):
    """0x2A1C, and 0x2A1E while it is still settling."""

    unit: str = flag(0, values=("C", "F"))
    temperature: Number = on_wire(FLOAT)
    timestamp: DateTime | None = on_wire(DATE_TIME, bit=1)
    type: int | None = on_wire(U8, bit=2)
    """Where on the body."""

    @property
    def moment(self) -> datetime | None:
        """When it was measured by the device's clock, without zone; None if that is unknown."""
        return self.timestamp.moment if self.timestamp else None

    @property
    def celsius(self) -> Number:
        """The temperature in degrees Celsius; exact if it was sent so."""
        return self.temperature if self.unit == "C" else convert(self.temperature, _CELSIUS_PER_F, offset=-_FREEZING_F)

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """The temperature, by where on the body it was taken."""
        extras = stamped(self.timestamp, None) | {Extra.UNIT: None if self.unit == "C" else "[degF]"}
        reasons = anomaly([self.rfu_flags, self.type is not None and self.type not in _METRICS])
        metric = _METRICS.get(self.type or 0, metrics.TEMPERATURE)
        return (reading(metric, self.celsius, device=device, time_ms=time_ms, reasons=reasons, extras=extras),)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntermediateTemperature(Temperature):
    """0x2A1E: not settled yet, for display only; no reading comes of it."""

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:  # noqa: ARG002 - see above
        """None."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureType(Measurement):
    """0x2A1D: where on the body, if the measurement does not say."""

    FLAGS_OCTETS: ClassVar[int] = 0

    value: int = on_wire(U8)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    0x2A1C: Temperature,
    0x2A1D: TemperatureType,
    0x2A1E: IntermediateTemperature,
}
SERVICE: Final = 0x1809
COLLECTED: Final = (0x2A1C,)
