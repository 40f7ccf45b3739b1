"""What a batch part says: readings in columns (layout 0) or events (layout 1).

Layout 0 = [0, base ms, [device, ...], [[device index, metric, exponent], ...], series, delta ms, mantissa, quality,
[[key, column], ...]]. A column is one item, which holds for every record, or an array of exactly as many items as there
are records. Times are deltas to the record before; the first one's is to the base.
"""

from collections.abc import Iterable, Mapping, Sequence
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
_INTEGER: frozenset[type] = frozenset({int})
_NUMBER = _INTEGER | {type(None)}
_EXTRA = _NUMBER | {str, bytes}


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one part, one list per field, all of one length."""

    device: list[str]
    metric: list[int]
    mantissa: list[int | None]
    exponent: list[int]
    time_ms: list[int]
    quality: list[int]
    extras: Mapping[int, list[ExtraValue]]
    """Keys ascending; None where a record has no such extra."""

    def __len__(self) -> int:
        return len(self.time_ms)

    def records(self) -> tuple[Record, ...]:
        """The same, one object a reading."""
        rows: Iterable[tuple[ExtraValue, ...]] = zip(*self.extras.values(), strict=True)
        extras = [
            tuple((key, value) for key, value in zip(self.extras, row, strict=True) if value is not None)
            for row in (rows if self.extras else [()] * len(self))
        ]
        qualities = map(Quality, self.quality)
        fields = zip(
            self.device, self.metric, self.mantissa, self.exponent, self.time_ms, qualities, extras, strict=True
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
    """What a batch of `count` (1..4096) records says. Raises `MalformedError`."""
    match cbor.decode(plaintext):
        case [0, int(base_ms), tuple(devices), tuple(series), indices, deltas, mantissas, qualities, tuple(extras), *_]:
            device, metric, exponent = _series(devices, series, indices, count)
            return Columns(
                device=device,
                metric=metric,
                mantissa=_expanded(mantissas, count, _NUMBER),
                exponent=exponent,
                time_ms=_times(base_ms, deltas, count),
                quality=_expanded(qualities, count, _INTEGER, 0, max(Quality)),
                extras=_extras(extras, count),
            )
        case [1, tuple(events), *_] if len(events) == count:
            return tuple(map(_event, events))
    raise MalformedError("unknown layout, or not as many records as announced")


def _expanded(
    column: Any,  # noqa: ANN401 - one item or an array of them
    count: int,
    kinds: frozenset[type],
    low: int = -cbor.MAX_INT,
    high: int = cbor.MAX_INT,
) -> list[Any]:
    """One item a record, each of one of `kinds`, integers from `low` to `high`."""
    if type(column) is not tuple:
        _check([column], kinds, low, high)
        return [column] * count
    if len(column) != count:
        raise MalformedError("a column has not one item a record")
    _check(column, kinds, low, high)
    return list(column)


def _check(values: Sequence[Any], kinds: frozenset[type], low: int, high: int) -> None:
    found = set(map(type, values))
    if not found <= kinds:
        raise MalformedError("a column holds something of a wrong type")
    if int in found:
        numbers = values if len(found) == 1 else [value for value in values if type(value) is int]
        if min(numbers) < low or max(numbers) > high:
            raise MalformedError("a column holds a number out of range")


def _series(
    devices: tuple[Any, ...],
    series: tuple[Any, ...],
    indices: Any,  # noqa: ANN401 - as `_expanded`
    count: int,
) -> tuple[list[str], list[int], list[int]]:
    """Device, metric and exponent of each record; a series may carry further items, which are ignored."""
    if not all(type(each) is str for each in devices):
        raise MalformedError("a device is text")
    known: list[tuple[str, int, int]] = []
    for each in series:
        match each:
            case [int(device), int(metric), int(exponent), *_] if (
                0 <= device < len(devices) and 0 <= metric <= _MAX_METRIC and exponent in _EXPONENTS
            ):
                known.append((devices[device], metric, exponent))
            case _:
                raise MalformedError("a series is [device index, metric, exponent]")
    places = _expanded(indices, count, _INTEGER, 0, len(known) - 1)
    if len(known) == 1:
        (name, metric, exponent) = known[0]
        return [name] * count, [metric] * count, [exponent] * count
    names, metrics, exponents = map(list, zip(*map(known.__getitem__, places), strict=True))
    return names, metrics, exponents


def _times(base_ms: int, deltas: Any, count: int) -> list[int]:  # noqa: ANN401 - as `_expanded`
    times = list(accumulate(_expanded(deltas, count, _INTEGER), initial=base_ms))
    if min(times) < 0 or max(times) > cbor.MAX_INT:
        raise MalformedError("a time is out of range")
    return times[1:]


def _extras(extras: tuple[Any, ...], count: int) -> dict[int, list[ExtraValue]]:
    columns: dict[int, list[ExtraValue]] = {}
    newest = -1
    for each in extras:
        match each:
            case [int(key), column] if newest < key <= cbor.MAX_INT:
                columns[key] = _expanded(column, count, _EXTRA)
                newest = key
            case _:
                raise MalformedError("extras are [key, column] in ascending order")
    return columns


def _event(item: Any) -> Event:  # noqa: ANN401 - any CBOR value
    match item:
        case [int(time_ms), str(code), tuple(details), *_] if cbor.is_uint(time_ms):
            _check(details, _EXTRA, -cbor.MAX_INT, cbor.MAX_INT)
            return Event(time_ms, code, details)
    raise MalformedError("an event is [time, code, details]")
