"""From a decoded number to a `Reading`: reasons of special values, extras, and conversion to a metric's unit."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from gateway.health.date_time import DateTime
from gateway.health.sfloat import Number, Special
from gateway.model import Extra, ExtraValue, Reading, Reason

Extras = Mapping[Extra, ExtraValue]
Bits = tuple[tuple[int, Reason], ...]
"""(mask of status bits, what it means if one of them is set)."""

NO_EXTRAS: Extras = {}

_UNKNOWN_USER = 255

_SPECIAL_REASONS = {
    Special.NAN: Reason.NO_VALUE,
    Special.NRES: Reason.NO_VALUE,
    Special.ABOVE: Reason.NO_VALUE | Reason.OUT_OF_RANGE,
    Special.BELOW: Reason.NO_VALUE | Reason.OUT_OF_RANGE,
    Special.RESERVED: Reason.NO_VALUE | Reason.ANOMALY,
}


def reading(
    metric: int,
    number: Number,
    *,
    device: str,
    time_ms: int,
    reasons: Reason = Reason.NONE,
    extras: Extras = NO_EXTRAS,
) -> Reading:
    """`number`, in the unit of `metric`, as a reading; a special value becomes no value, its reasons and an extra."""
    if number.special is None:
        return Reading(device, metric, number.mantissa, number.exponent, time_ms, reasons, in_order(extras))
    reasons |= _SPECIAL_REASONS[number.special]
    if number.anomalous:
        reasons |= Reason.ANOMALY
    told = in_order({**extras, Extra.SPECIAL: str(number.special)})
    return Reading(device, metric, None, 0, time_ms, reasons, told)


def stamped(timestamp: DateTime | None, user: int | None) -> dict[Extra, ExtraValue]:
    """The extras for the device's own time, and for which of its users it means; 255 is none that it knows."""
    return {
        Extra.DEVICE_TIME: None if timestamp is None else timestamp.isoformat(),
        Extra.USER: None if user == _UNKNOWN_USER else user,
    }


def in_order(extras: Extras) -> tuple[tuple[int, ExtraValue], ...]:
    """`extras` as a reading carries them: ascending, without those that are None."""
    if not extras:
        return ()
    return tuple(sorted((int(key), value) for key, value in extras.items() if value is not None))


def reasons_of(status: int, bits: Bits) -> Reason:
    """What the bits of `status` say."""
    reasons = Reason.NONE
    if not status:
        return reasons
    if status:
        for mask, reason in bits:
            if status & mask:
                reasons |= reason
    return reasons


def anomaly(signs: Iterable[object]) -> Reason:
    """`Reason.ANOMALY` if anything in `signs` is true."""
    return Reason.ANOMALY if any(signs) else Reason.NONE


def convert(number: Number, factor: Fraction, *, offset: int = 0) -> Number:
    """`(number + offset) * factor`, rounded half to even and so finely that the original value can be told from it.

    A factor of 1 or more keeps the exponent; a smaller one costs as many digits more as it is decades smaller.
    """
    if number.mantissa is None:
        return number
    exponent, step = number.exponent, factor
    while step < 1:
        exponent, step = exponent - 1, step * 10
    exact = (number.mantissa * Fraction(10) ** number.exponent + offset) * factor
    return Number(round(exact / Fraction(10) ** exponent), exponent)
