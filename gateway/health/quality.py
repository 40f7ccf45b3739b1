"""How far a reading may be trusted: the device's own doubts, what is possible, and how fast it may change."""

from collections.abc import Mapping
from typing import Final

from gateway.health.metrics import GLUCOSE, METRICS, Limits
from gateway.health.sfloat import Special
from gateway.model import Extra, ExtraValue, Quality, Reading, Reason, Record

_NOT_PATIENT: Final = int(Reason.CONTROL_SOLUTION | Reason.DEMO_DATA | Reason.TEST_DATA)
_VOID: Final = int(Reason.NO_VALUE | Reason.IMPLAUSIBLE | Reason.SENSOR_FAULT | Reason.NOT_READY)
_NO_MEASURE: Final = _NOT_PATIENT | _VOID
"""Such a value is no measure of how fast the next one changed."""
_DOUBTFUL: Final = int(
    Reason.OUT_OF_RANGE
    | Reason.UNIT_MISTAKE
    | Reason.RATE_OF_CHANGE
    | Reason.SIGNAL
    | Reason.CALIBRATION
    | Reason.TIME_DOUBTFUL
    | Reason.DEVICE_DOUBTS
    | Reason.CONTRADICTION
)

_LOW_ALARMS: Final = 0x45 << 16
"""CGM: below the patient's low level, hypoglycaemic, below what the device can measure."""
_HIGH_ALARMS: Final = 0x8A << 16
_RATE_ALARMS: Final = 0x30 << 16
_LOW_AGREES_MG_DL: Final = 100
"""A low alarm at a higher value is not believed: monitors let nobody set it there, but some swap status octets."""
_HIGH_AGREES_MG_DL: Final = 120

_RATE_WINDOW_MS: Final = 15 * 60_000
"""Two readings further apart say nothing about a rate."""
_SHORTEST_MS: Final = 60_000
"""Readings that are closer count as this far apart: times are whole minutes, and values have noise."""


def quality_of(reasons: Reason) -> Quality:
    """What follows from `reasons`; the rest of them are notes."""
    bits = int(reasons)
    if bits & _NOT_PATIENT:
        return Quality.NOT_PATIENT
    if bits & _VOID:
        return Quality.VOID
    return Quality.DOUBTFUL if bits & _DOUBTFUL else Quality.GOOD


def urgent(record: Record) -> bool:
    """Whether a continuous glucose monitor raises an alarm now, and its value agrees: such a record can't wait.

    A low alarm agrees with a value up to 100 mg/dL, or with one below the device's range; a high alarm with one from
    120 mg/dL, or above the range; an alarm of rate unless the value is contradicted (`Reason.CONTRADICTION`). What was
    fetched from a store is no news, what is void or not a patient's no alarm.
    """
    if record.metric != GLUCOSE or record.quality is Quality.NOT_PATIENT:
        return False
    extras = dict(record.extras)
    status = extras.get(Extra.STATUS)
    if not isinstance(status, int):
        return False
    reasons = extras.get(Extra.REASONS, 0)
    if not isinstance(reasons, int):
        return False
    if Extra.BACKFILLED in extras or reasons & (Reason.CONTRADICTION | Reason.STORED):
        return False
    low, high = bool(status & _LOW_ALARMS), bool(status & _HIGH_ALARMS)
    if record.mantissa is None:
        # Beyond the device's range there is no value, and yet it is known on which side, if nothing else is wrong.
        beyond = extras.get(Extra.SPECIAL)
        agrees = (low and beyond == Special.BELOW) or (high and beyond == Special.ABOVE)
        return agrees and not reasons & _VOID & ~Reason.NO_VALUE
    if record.quality is Quality.VOID:
        return False
    value = _as_float(record.mantissa, record.exponent)
    return (low and value <= _LOW_AGREES_MG_DL) or (high and value >= _HIGH_AGREES_MG_DL) or bool(status & _RATE_ALARMS)


class Assessor:
    """Judges readings one by one; remembers the last sound value of each device and metric.

    `limits` replace those of `METRICS`, by metric code. A judgement is put beside the value and never changes it.
    """

    def __init__(self, limits: Mapping[int, Limits] | None = None) -> None:
        self._limits = {code: metric.limits for code, metric in METRICS.items()} | dict(limits or {})
        self._last: dict[tuple[str, int], tuple[int, float]] = {}

    def assess(self, reading: Reading) -> Record:
        """The reading with its quality, and in `Extra.REASONS` why."""
        judged = self._judge(reading)
        reasons = reading.reasons | judged if judged else reading.reasons
        extras, quality = reading.extras, Quality.GOOD
        if reasons:
            extras, quality = with_extra(extras, Extra.REASONS, int(reasons)), quality_of(reasons)
        return Record(
            reading.device, reading.metric, reading.mantissa, reading.exponent, reading.time_ms, quality, extras
        )

    def _judge(self, reading: Reading) -> Reason:
        if reading.mantissa is None:
            return Reason.NO_VALUE
        limits = self._limits.get(reading.metric)
        if limits is None:
            return Reason.NONE
        value = _as_float(reading.mantissa, reading.exponent)
        if not _within(value, limits.reject_below, limits.reject_above):
            return Reason.IMPLAUSIBLE | _mistake(value, limits, reading.metric)
        too_fast = (
            limits.rate_per_min is not None
            and not int(reading.reasons) & _NO_MEASURE
            and self._too_fast(reading, value, limits.rate_per_min)
        )
        if _within(value, limits.flag_below, limits.flag_above):
            return Reason.RATE_OF_CHANGE if too_fast else Reason.NONE
        reasons = Reason.OUT_OF_RANGE | _mistake(value, limits, reading.metric)
        return reasons | Reason.RATE_OF_CHANGE if too_fast else reasons

    def _too_fast(self, reading: Reading, value: float, rate_per_min: float) -> bool:
        """Whether `value` is further from the one before than may be; it is the one before from now on."""
        key = (reading.device, reading.metric)
        before = self._last.get(key)
        self._last[key] = (reading.time_ms, value)
        if before is None:
            return False
        apart_ms = abs(reading.time_ms - before[0])
        if apart_ms > _RATE_WINDOW_MS:
            return False
        return abs(value - before[1]) > rate_per_min * max(apart_ms, _SHORTEST_MS) / 60_000


def with_extra(
    extras: tuple[tuple[int, ExtraValue], ...], key: Extra, value: ExtraValue
) -> tuple[tuple[int, ExtraValue], ...]:
    """`extras` with one more or another value, in ascending order of keys."""
    return tuple(sorted({**dict(extras), int(key): value}.items()))


def _as_float(mantissa: int, exponent: int) -> float:
    """Correctly rounded, so that a value on a limit is within it."""
    return mantissa / 10**-exponent if exponent < 0 else float(mantissa * 10**exponent)


def _within(value: float, lowest: float | None, highest: float | None) -> bool:
    return (lowest is None or value >= lowest) and (highest is None or value <= highest)


def _mistake(value: float, limits: Limits, metric: int) -> Reason:
    """Whether the value would be ordinary in another unit that the metric is often told in."""
    factors = METRICS[metric].unit_factors if metric in METRICS else ()
    others = (other for factor in factors for other in (value * factor, value / factor))
    return Reason.UNIT_MISTAKE if any(other and _ordinary(other, limits) for other in others) else Reason.NONE


def _ordinary(value: float, limits: Limits) -> bool:
    return _within(value, limits.flag_below, limits.flag_above) and _within(
        value, limits.reject_below, limits.reject_above
    )
