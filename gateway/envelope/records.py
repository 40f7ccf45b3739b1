"""What a batch part says: readings in columns (layout 0) or events (layout 1).

Layout 0 = [0, base ms, [device, ...], [[device index, metric, exponent], ...], series, delta ms, mantissa, quality,
[[key, column], ...]]. A column is one item, which holds for every record, or an array of exactly as many items as there
are records. Times are deltas to the record before; the first one's is to the base.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gateway.envelope import cbor
from gateway.errors import MalformedError
from gateway.model import Event, ExtraValue, Quality, Record

COLUMNS, EVENTS = 0, 1
MAX_RECORDS = 4096

_MAX_METRIC = 2**32 - 1
_EXPONENTS = range(-128, 128)
_NO_EXTRAS: tuple[tuple[int, ExtraValue], ...] = ()
_QUALITIES = frozenset(map(int, Quality))


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one part, one list per field, all of one length."""

    device: list[str]
    metric: list[int]
    mantissa: list[int | None]
    exponent: list[int]
    time_ms: list[int]
    quality: list[int]
    extras: list[tuple[tuple[int, ExtraValue], ...]]

    def __len__(self) -> int:
        return len(self.time_ms)

    def records(self) -> tuple[Record, ...]:
        """The same, one object a reading."""
        qualities = map(Quality, self.quality)
        fields = zip(
            self.device, self.metric, self.mantissa, self.exponent, self.time_ms, qualities, self.extras, strict=True
        )
        return tuple(Record(*each) for each in fields)


def _column(values: list[Any]) -> Any:  # noqa: ANN401 - one item or a list of them
    """One item where all are the same."""
    first = values[0]
    return first if values.count(first) == len(values) else values


def encode_records(records: Sequence[Record]) -> bytes:
    """Layout 0 of one or more readings."""
    devices: dict[str, int] = {}
    series: dict[tuple[int, int, int], int] = {}
    indices, deltas, mantissas, qualities = [], [], [], []
    extras: dict[int, list[ExtraValue]] = {}
    previous_ms = base_ms = records[0].time_ms
    for place, record in enumerate(records):
        device = devices.setdefault(record.device, len(devices))
        indices.append(series.setdefault((device, record.metric, record.exponent), len(series)))
        deltas.append(record.time_ms - previous_ms)
        previous_ms = record.time_ms
        mantissas.append(record.mantissa)
        qualities.append(int(record.quality))
        for key, value in record.extras:
            extras.setdefault(int(key), [None] * len(records))[place] = value
    content = [COLUMNS, base_ms, tuple(devices), tuple(series), _column(indices), _column(deltas)]
    content += [_column(mantissas), _column(qualities), [[key, _column(extras[key])] for key in sorted(extras)]]
    return cbor.encode(content)


def encode_events(events: Iterable[Event]) -> bytes:
    """Layout 1 of one or more events."""
    return cbor.encode([EVENTS, [[event.time_ms, event.code, list(event.details)] for event in events]])


def decode_content(plaintext: bytes, count: int) -> Columns | tuple[Event, ...]:
    """What a batch of `count` records says. Raises `MalformedError`."""
    match cbor.decode(plaintext):
        case [0, int(base_ms), tuple(devices), tuple(series), indices, deltas, mantissas, qualities, tuple(extras), *_]:
            names, metrics, exponents = _series(devices, series)
            places = _integers(indices, count, 0, len(names) - 1)
            return Columns(
                device=[names[place] for place in places],
                metric=[metrics[place] for place in places],
                mantissa=_mantissas(mantissas, count),
                exponent=[exponents[place] for place in places],
                time_ms=_times(base_ms, deltas, count),
                quality=_qualities(qualities, count),
                extras=_extras(extras, count),
            )
        case [1, tuple(events), *_] if len(events) == count:
            return tuple(map(_event, events))
    raise MalformedError("unknown layout, or not as many records as announced")


def _times(base_ms: int, deltas: Any, count: int) -> list[int]:  # noqa: ANN401 - as `_expanded`
    steps = _integers(deltas, count, -cbor.MAX_INT, cbor.MAX_INT)
    times = list(accumulate(steps, initial=base_ms))[1:]
    if not cbor.is_uint(base_ms) or min(times) < 0 or max(times) > cbor.MAX_INT:
        raise MalformedError("a time is out of range")
    return times


def _series(devices: tuple[Any, ...], series: tuple[Any, ...]) -> tuple[list[str], list[int], list[int]]:
    """Device, metric and exponent of each series; a series may carry further items, which are ignored."""
    if not all(type(each) is str for each in devices):
        raise MalformedError("a device is text")
    names, metrics, exponents = [], [], []
    for each in series:
        match each:
            case [int(device), int(metric), int(exponent), *_] if (
                0 <= device < len(devices) and 0 <= metric <= _MAX_METRIC and exponent in _EXPONENTS
            ):
                names.append(devices[device])
                metrics.append(metric)
                exponents.append(exponent)
            case _:
                raise MalformedError("a series is [device index, metric, exponent]")
    return names, metrics, exponents


def _expanded(column: Any, count: int) -> list[Any]:  # noqa: ANN401 - one item or an array of them
    if type(column) is not tuple:
        return [column] * count
    if len(column) != count:
        raise MalformedError("a column has not one item a record")
    return list(column)


def _integers(column: Any, count: int, low: int, high: int) -> list[int]:  # noqa: ANN401 - as `_expanded`
    values = _expanded(column, count)
    _check_integers(values, low, high)
    return values


def _check_integers(values: list[Any], low: int, high: int) -> None:
    if set(map(type, values)) != {int} or min(values) < low or max(values) > high:
        raise MalformedError("a column holds something else than integers in range")


def _mantissas(column: Any, count: int) -> list[int | None]:  # noqa: ANN401 - as `_expanded`
    values: list[int | None] = _expanded(column, count)
    numbers = [value for value in values if value is not None]
    if numbers:
        _check_integers(numbers, -cbor.MAX_INT, cbor.MAX_INT)
    return values


def _qualities(column: Any, count: int) -> list[int]:  # noqa: ANN401 - as `_expanded`
    values = _expanded(column, count)
    if set(map(type, values)) != {int} or not _QUALITIES.issuperset(values):
        raise MalformedError("unknown quality")
    return values


def _extras(extras: tuple[Any, ...], count: int) -> list[tuple[tuple[int, ExtraValue], ...]]:
    if not extras:
        return [_NO_EXTRAS] * count
    keys: list[int] = []
    columns: list[list[ExtraValue]] = []
    for each in extras:
        match each:
            case [int(key), column] if cbor.is_uint(key) and (not keys or key > keys[-1]):
                values = _expanded(column, count)
                if not all(map(_is_extra, values)):
                    raise MalformedError("an extra is an integer, text, bytes or null")
                keys.append(key)
                columns.append(values)
            case _:
                raise MalformedError("extras are [key, column] in ascending order")
    return [
        tuple((key, value) for key, value in zip(keys, row, strict=True) if value is not None)
        for row in zip(*columns, strict=True)
    ]


def _is_extra(value: object) -> bool:
    if type(value) is int:
        return -cbor.MAX_INT <= value <= cbor.MAX_INT
    return value is None or type(value) in (str, bytes)


def _event(item: Any) -> Event:  # noqa: ANN401 - any CBOR value
    match item:
        case [int(time_ms), str(code), tuple(details), *_] if cbor.is_uint(time_ms) and all(map(_is_extra, details)):
            return Event(time_ms, code, tuple(details))
    raise MalformedError("an event is [time, code, details]")
