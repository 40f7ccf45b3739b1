"""Body composition (service 0x181B; BCS 1.0): measurement 0x2A9C, feature 0x2A9B."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import ClassVar, Final

from gateway.health import metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, U8, U16, U32, Measurement, flag, on_wire, scaled
from gateway.health.reading import anomaly, convert, reading, stamped
from gateway.health.sfloat import Number
from gateway.model import Extra, Reading

_KG_PER_LB: Final = Fraction("0.45359237")
_CM_PER_INCH: Final = Fraction("2.54")
_CM_PER_M_PLACES: Final = 2

_TENTHS = scaled(-1)
_MASS_KG, _MASS_LB = scaled(-3, step=5), (0, scaled(-2))
_HEIGHT_M, _HEIGHT_INCH = scaled(-3), (0, scaled(-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyComposition(Measurement):
    """0x2A9C: masses in `unit`, height in m (inches with pounds). A failed measurement has no body fat."""

    FLAGS_OCTETS: ClassVar[int] = 2

    unit: str = flag(0, values=("kg", "lb"))
    body_fat_pct: Number = on_wire(scaled(-1, may_fail=True))
    timestamp: DateTime | None = on_wire(DATE_TIME, bit=1)
    user_id: int | None = on_wire(U8, bit=2)
    """255: unknown."""
    basal_metabolism_kj: int | None = on_wire(U16, bit=3)
    muscle_pct: Number | None = on_wire(_TENTHS, bit=4)
    muscle_mass: Number | None = on_wire(_MASS_KG, bit=5, variant=_MASS_LB)
    fat_free_mass: Number | None = on_wire(_MASS_KG, bit=6, variant=_MASS_LB)
    soft_lean_mass: Number | None = on_wire(_MASS_KG, bit=7, variant=_MASS_LB)
    body_water_mass: Number | None = on_wire(_MASS_KG, bit=8, variant=_MASS_LB)
    impedance_ohm: Number | None = on_wire(_TENTHS, bit=9)
    weight: Number | None = on_wire(_MASS_KG, bit=10, variant=_MASS_LB)
    height: Number | None = on_wire(_HEIGHT_M, bit=11, variant=_HEIGHT_INCH)
    multiple_packet: bool = flag(12)
    """The rest of this measurement comes in another value."""

    @property
    def moment(self) -> datetime | None:
        """When it was measured by the device's clock, without zone; None if that is unknown."""
        return self.timestamp.moment if self.timestamp else None

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """Everything that was sent: masses in kg, height in cm."""
        metric = self.unit == "kg"
        masses = (
            (metrics.MUSCLE_MASS, self.muscle_mass),
            (metrics.FAT_FREE_MASS, self.fat_free_mass),
            (metrics.SOFT_LEAN_MASS, self.soft_lean_mass),
            (metrics.BODY_WATER, self.body_water_mass),
            (metrics.WEIGHT, self.weight),
        )
        values: list[tuple[int, Number | None, str | None]] = [
            (metrics.BODY_FAT, self.body_fat_pct, None),
            (metrics.MUSCLE_PERCENTAGE, self.muscle_pct, None),
            (metrics.BASAL_METABOLISM, _whole(self.basal_metabolism_kj), None),
            (metrics.IMPEDANCE, self.impedance_ohm, None),
            *((code, mass if metric else _to_kg(mass), None if metric else "[lb_av]") for code, mass in masses),
            (metrics.HEIGHT, self._height_cm(), "m" if metric else "[in_i]"),
        ]
        told = stamped(self.timestamp, self.user_id)
        reasons = anomaly([self.rfu_flags])
        return tuple(
            reading(
                code,
                number,
                device=device,
                time_ms=time_ms,
                reasons=reasons,
                extras=told | {Extra.UNIT: sent_in},
            )
            for code, number, sent_in in values
            if number is not None
        )

    def _height_cm(self) -> Number | None:
        if self.height is None or self.unit == "kg":
            return self.height and self.height.shifted(_CM_PER_M_PLACES)
        return convert(self.height, _CM_PER_INCH)


def _whole(value: int | None) -> Number | None:
    return None if value is None else Number(value)


def _to_kg(mass: Number | None) -> Number | None:
    return mass and convert(mass, _KG_PER_LB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Measurement):
    """0x2A9B, bits 0-10 as the measurement's optional fields, 11-14 mass resolution, 15-17 height resolution."""

    FLAGS_OCTETS: ClassVar[int] = 0

    features: int = on_wire(U32)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A9B: Feature, 0x2A9C: BodyComposition}
SERVICE: Final = 0x181B
COLLECTED: Final = (0x2A9C,)
