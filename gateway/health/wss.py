"""Weight scale (service 0x181D; WSS 1.0): measurement 0x2A9D, feature 0x2A9E.

The resolutions in the feature only tell how accurate the scale is; those on the wire are fixed.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import ClassVar, Final

from gateway.health import metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, U8, U32, Measurement, flag, on_wire, scaled
from gateway.health.reading import anomaly, convert, reading, stamped
from gateway.health.sfloat import Number
from gateway.model import Extra, Reading

_KG_PER_LB: Final = Fraction("0.45359237")
_CM_PER_INCH: Final = Fraction("2.54")
_CM_PER_M_PLACES: Final = 2

_WEIGHT_KG = scaled(-3, step=5, may_fail=True)
_WEIGHT_LB = scaled(-2, may_fail=True)
_HEIGHT_M = scaled(-3)
_HEIGHT_INCH = scaled(-1)
_BMI = scaled(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight(Measurement):
    """0x2A9D: the weight, and what the scale knows of the person; a failed measurement has no weight."""

    unit: str = flag(0, values=("kg", "lb"))
    weight: Number = on_wire(_WEIGHT_KG, variant=(0, _WEIGHT_LB))
    timestamp: DateTime | None = on_wire(DATE_TIME, bit=1)
    user_id: int | None = on_wire(U8, bit=2)
    """255: unknown."""
    bmi: Number | None = on_wire(_BMI, bit=3)
    """kg/m2."""
    height: Number | None = on_wire(_HEIGHT_M, bit=3, variant=(0, _HEIGHT_INCH))
    """m; inches if the weight is in pounds."""

    @property
    def moment(self) -> datetime | None:
        """When it was measured by the device's clock, without zone; None if that is unknown."""
        return self.timestamp.moment if self.timestamp else None

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """Weight, kg, and where they were sent BMI and height, cm."""
        metric = self.unit == "kg"
        values = [(metrics.WEIGHT, self.weight if metric else convert(self.weight, _KG_PER_LB), "kg", "[lb_av]")]
        if self.bmi is not None:
            values.append((metrics.BMI, self.bmi, "kg/m2", "kg/m2"))
        if self.height is not None:
            height = self.height.shifted(_CM_PER_M_PLACES) if metric else convert(self.height, _CM_PER_INCH)
            values.append((metrics.HEIGHT, height, "m", "[in_i]"))
        told = stamped(self.timestamp, self.user_id)
        reasons = anomaly([self.rfu_flags])
        return tuple(
            reading(
                code,
                number,
                device=device,
                time_ms=time_ms,
                reasons=reasons,
                extras=told | {Extra.UNIT: _unless(si if metric else imperial, code)},
            )
            for code, number, si, imperial in values
        )


def _unless(unit: str, code: int) -> str | None:
    """`unit`, unless it is the metric's own."""
    return None if unit == metrics.METRICS[code].unit else unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Measurement):
    """0x2A9E, bits: 0 time stamps, 1 several users, 2 BMI, 3-6 weight resolution, 7-9 height resolution."""

    FLAGS_OCTETS: ClassVar[int] = 0

    features: int = on_wire(U32)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A9D: Weight, 0x2A9E: Feature}
SERVICE: Final = 0x181D
COLLECTED: Final = (0x2A9D,)
