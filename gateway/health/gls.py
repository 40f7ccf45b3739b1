"""Glucose (0x1808, GLS 1.0.1): measurement, its context, feature."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import ClassVar, Final

from gateway.health import metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, SFLOAT, U8, U16, Fields, Measurement, flag, on_wire, or_special, put
from gateway.health.reading import Bits, anomaly, convert, in_order, reading, reasons_of
from gateway.health.sfloat import Number, Special
from gateway.model import Extra, ExtraValue, Reading, Reason

_KG_L, _MOL_L = "kg/L", "mol/L"
_MG_DL_PER_MMOL_L: Final = Fraction("18.0156")
"""Molar mass of glucose: 180.156 g/mol."""

_OFFSET = or_special("h", {0x7FFF: Special.ABOVE, -0x8000: Special.BELOW})
_DURATION = or_special("H", {0xFFFF: Special.ABOVE})

_CONTROL_SOLUTION: Final = 10
_AT_CONTROL_SOLUTION: Final = 4

_METRICS: Final = {
    1: metrics.GLUCOSE_CAPILLARY,
    2: metrics.GLUCOSE_CAPILLARY_PLASMA,
    3: metrics.GLUCOSE_VENOUS,
    4: metrics.GLUCOSE_VENOUS_PLASMA,
    5: metrics.GLUCOSE_ARTERIAL,
    6: metrics.GLUCOSE_ARTERIAL_PLASMA,
    7: metrics.GLUCOSE_BLOOD,
    8: metrics.GLUCOSE_PLASMA,
    9: metrics.GLUCOSE,
    _CONTROL_SOLUTION: metrics.GLUCOSE_CONTROL,
}

_TOO_HIGH, _TOO_LOW = 1 << 5, 1 << 6
TIME_FAULT: Final = 1 << 11
_STATUS: Final[Bits] = (
    (1 << 0, Reason.BATTERY_LOW),
    (0x01E, Reason.SENSOR_FAULT),  # malfunction, too small a sample, strip inserted wrongly, wrong strip
    (_TOO_HIGH | _TOO_LOW, Reason.OUT_OF_RANGE),
    (0x780, Reason.SENSOR_FAULT),  # too hot, too cold, strip pulled out too early, general fault
    (TIME_FAULT, Reason.TIME_DOUBTFUL),
    (0xF000, Reason.ANOMALY),  # reserved
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glucose(Measurement):
    """Glucose Measurement (0x2A18). A result may lack its number and say in `status` why."""

    sequence: int = on_wire(U16, called="sequence_number")
    base_time: DateTime = on_wire(DATE_TIME)
    time_offset_min: int | Special | None = on_wire(_OFFSET, bit=0)
    """Special if the true one does not fit."""
    concentration: Number | None = on_wire(SFLOAT, bit=1)
    sample_type: int | None = on_wire(U8, bit=1, nibbles=("type", "location"))
    unit: str = flag(2, values=(_KG_L, _MOL_L))
    status: int | None = on_wire(U16, bit=3)
    context_follows: bool = flag(4)

    @property
    def moment(self) -> datetime | None:
        """The meter's local time of the measurement; None if its date or offset is unknown."""
        if isinstance(self.time_offset_min, Special):
            return None
        later = self.base_time.later(self.time_offset_min or 0)
        return None if later is None else later.moment

    @property
    def mg_dl(self) -> Number | None:
        """The concentration; exact if it was sent as kg/L."""
        if self.concentration is None or self.unit == _KG_L:
            return self.concentration and self.concentration.shifted(5)
        return convert(self.concentration.shifted(3), _MG_DL_PER_MMOL_L)

    @property
    def mmol_l(self) -> Number | None:
        """The concentration; exact if it was sent as mol/L."""
        if self.concentration is None or self.unit == _MOL_L:
            return self.concentration and self.concentration.shifted(3)
        return convert(self.concentration.shifted(5), 1 / _MG_DL_PER_MMOL_L)

    def fields(self) -> Fields:
        """As declared, and the concentration in both units of the clinic."""
        out = Measurement.fields(self)
        put(out, "mg_dl", self.mg_dl)
        put(out, "mmol_l", self.mmol_l)
        if self.concentration is None:
            del out["unit"]
        return out

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """One reading, mg/dL, of the metric that the sample's type names."""
        kind = (self.sample_type or 0) & 0x0F
        control = kind == _CONTROL_SOLUTION or (self.sample_type or 0) >> 4 == _AT_CONTROL_SOLUTION
        metric = metrics.GLUCOSE_CONTROL if control else _METRICS.get(kind, metrics.GLUCOSE_GENERIC)
        status = self.status or 0
        unknown_type = self.sample_type is not None and kind not in _METRICS
        reasons = reasons_of(status, _STATUS) | anomaly(
            [self.rfu_flags, unknown_type, isinstance(self.time_offset_min, Special)]
        )
        reasons |= Reason.CONTROL_SOLUTION if control else Reason.NONE
        moment = self.moment
        reasons |= Reason.TIME_DOUBTFUL if moment is None else Reason.NONE
        extras: dict[Extra, ExtraValue] = {
            Extra.SEQUENCE: self.sequence,
            Extra.SESSION: self.base_time.isoformat(),
            Extra.DEVICE_TIME: None if moment is None else moment.isoformat(),
            Extra.STATUS: self.status,
            Extra.SAMPLE_TYPE: self.sample_type,
        }
        if self.mg_dl is None:
            extras[Extra.SPECIAL] = _why_none(status)
            return (Reading(device, metric, None, 0, time_ms, reasons | Reason.NO_VALUE, in_order(extras)),)
        extras[Extra.UNIT] = self.unit
        return (reading(metric, self.mg_dl, device=device, time_ms=time_ms, reasons=reasons, extras=extras),)


def _why_none(status: int) -> str:
    if status & _TOO_HIGH:
        return "result too high"
    return "result too low" if status & _TOO_LOW else "no result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Measurement):
    """Glucose Measurement Context (0x2A34): what went with the measurement of the same sequence number."""

    sequence: int = on_wire(U16, called="sequence_number")
    extended_flags: int | None = on_wire(U8, bit=7)
    carb_id: int | None = on_wire(U8, bit=0)
    carb_kg: Number | None = on_wire(SFLOAT, bit=0)
    meal: int | None = on_wire(U8, bit=1)
    tester_health: int | None = on_wire(U8, bit=2, nibbles=("tester", "health"))
    exercise_s: int | Special | None = on_wire(_DURATION, bit=3)
    """Special if it was longer than can be told."""
    exercise_pct: int | None = on_wire(U8, bit=3)
    medication_id: int | None = on_wire(U8, bit=4, called="med_id")
    medication: Number | None = on_wire(SFLOAT, bit=4)
    med_unit: str = flag(5, values=("kg", "L"))
    hba1c_pct: Number | None = on_wire(SFLOAT, bit=6)

    def fields(self) -> Fields:
        """As declared, and the flags."""
        out = Measurement.fields(self) | {"flags": self.flags}
        if self.medication is None:
            del out["med_unit"]
        return out

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """What was sent, one reading each; `Extra.SEQUENCE` names the measurement."""
        by_mass = self.med_unit == "kg"
        values = (
            (metrics.CARBOHYDRATE, self.carb_kg and self.carb_kg.shifted(3)),
            (metrics.MEAL, _number(self.meal)),
            (metrics.TESTER, _number(None if self.tester_health is None else self.tester_health & 0x0F)),
            (metrics.HEALTH, _number(None if self.tester_health is None else self.tester_health >> 4)),
            (metrics.EXERCISE_DURATION, _number(self.exercise_s)),
            (metrics.EXERCISE_INTENSITY, _number(self.exercise_pct)),
            (metrics.MEDICATION_MASS, self.medication.shifted(6) if self.medication and by_mass else None),
            (metrics.MEDICATION_VOLUME, self.medication.shifted(3) if self.medication and not by_mass else None),
            (metrics.HBA1C, self.hba1c_pct),
        )
        reasons = anomaly([self.rfu_flags, self.extended_flags])
        extras = {Extra.SEQUENCE: self.sequence}
        return tuple(
            reading(metric, number, device=device, time_ms=time_ms, reasons=reasons, extras=extras)
            for metric, number in values
            if number is not None
        )


def _number(value: int | Special | None) -> Number | None:
    if value is None:
        return None
    return Number(None, 0, value) if isinstance(value, Special) else Number(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Measurement):
    """Glucose Feature (0x2A51); its bits are numbered differently from those of the measurement's status."""

    FLAGS_OCTETS: ClassVar[int] = 0

    features: int = on_wire(U16)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A18: Glucose, 0x2A34: Context, 0x2A51: Feature}
SERVICE: Final = 0x1808
