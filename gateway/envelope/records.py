"""What a part says: readings in columns (layout 0), events (layout 1), or a gap.

Layout 0 = [0, base ms, [device, ...], [[device index, metric, exponent], ...], series, delta ms, mantissa, quality,
[[key, column], ...]]. A column is one item, which holds for every record, or an array of exactly as many items as there
are records. Times are deltas to the record before; the first one's is to the base.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from typing import Any

from gateway.envelope import cbor
from gateway.envelope.layout import ID_BYTES
from gateway.errors import MalformedError
from gateway.model import Event, ExtraValue, Gap, Quality, Record

COLUMNS, EVENTS = 0, 1
MAX_RECORDS = 4096

_MAX_METRIC = 2**32 - 1
_MAX_QUALITY = max(Quality)
_TEXT = frozenset({str})
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


def encode_records(records: Sequence[Record]) -> bytes:
    """Layout 0 of one or more readings. Raises `MalformedError` for one that no reader would take."""
    keys = [(record.device, record.metric, record.exponent) for record in records]
    index = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    devices = {device: place for place, device in enumerate(dict.fromkeys(device for device, _, _ in index))}
    series = [(devices[device], metric, exponent) for device, metric, exponent in index]
    times = [record.time_ms for record in records]
    mantissas = [record.mantissa for record in records]
    extras = _gathered(records)
    _check(times, _INTEGER, 0, cbor.MAX_INT)
    _check(mantissas, _NUMBER, -cbor.MAX_INT, cbor.MAX_INT)
    _check(list(extras), _INTEGER, 0, cbor.MAX_INT)
    _table(tuple(devices), series)
    content = [
        COLUMNS,
        times[0],
        tuple(devices),
        series,
        _column([index[key] for key in keys]),
        _column(list(map(sub, times, times[:1] + times))),
        _column(mantissas),
        _column([int(record.quality) for record in records]),
        [[key, _column(extras[key])] for key in sorted(extras)],
    ]
    return cbor.encode(content)


def _gathered(records: Sequence[Record]) -> dict[int, list[ExtraValue]]:
    """Extras by key, one item a record."""
    extras: dict[int, list[ExtraValue]] = {}
    for place, record in enumerate(records):
        for key, value in record.extras:
            if key not in extras:
                extras[int(key)] = [None] * len(records)
            extras[key][place] = value
    return {key: _plain(values) for key, values in extras.items()}


def _plain(values: Sequence[ExtraValue]) -> list[ExtraValue]:
    """The same as values of the types that travel: enumerations as their numbers."""
    plain = [int(value) if isinstance(value, int) else value for value in values]
    _check(plain, _EXTRA, -cbor.MAX_INT, cbor.MAX_INT)
    return plain


def _column(values: list[Any]) -> Any:  # noqa: ANN401 - one item or a list of them
    """One item where all are the same."""
    first = values[0]
    return first if values.count(first) == len(values) else values


def encode_events(events: Iterable[Event]) -> bytes:
    """Layout 1 of one or more events. Raises `MalformedError` for one that no reader would take."""
    rows = [
        [event.time_ms, event.code, _plain(event.details), *([] if event.boot is None else [event.boot])]
        for event in events
    ]
    _check([row[0] for row in rows], _INTEGER, 0, cbor.MAX_INT)
    return cbor.encode([EVENTS, rows])


def encode_gap(gap: Gap) -> bytes:
    """What a gap part says. Raises `MalformedError` for one that no reader would take."""
    _check([gap.from_ms, gap.to_ms, gap.count - 1], _INTEGER, 0, cbor.MAX_INT)
    return cbor.encode([gap.cause, gap.from_ms, gap.to_ms])


def decode_gap(plaintext: bytes, count: int) -> Gap:
    """What a gap of `count` records says. Raises `MalformedError`."""
    match cbor.decode(plaintext):
        case [str(cause), int(from_ms), int(to_ms), *_] if cbor.is_uint(from_ms) and cbor.is_uint(to_ms):
            return Gap(count, cause, from_ms, to_ms)
    raise MalformedError("a gap is [cause, from, to]")


def decode_content(plaintext: bytes, count: int) -> Columns | tuple[Event, ...]:
    """What a batch of `count` (1..4096) records says. Raises `MalformedError`."""
    match cbor.decode(plaintext):
        case [0, int(base_ms), list(devices), list(series), indices, deltas, mantissas, qualities, list(extras), *_]:
            device, metric, exponent = _series(devices, series, indices, count)
            return Columns(
                device=device,
                metric=metric,
                mantissa=_expanded(mantissas, count, _NUMBER),
                exponent=exponent,
                time_ms=_times(base_ms, deltas, count),
                quality=_expanded(qualities, count, _INTEGER, 0, _MAX_QUALITY),
                extras=_extras(extras, count),
            )
        case [1, list(events), *_] if len(events) == count:
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
    kind = type(column)
    if kind is list:
        if len(column) != count:
            raise MalformedError("a column has not one item a record")
        items: list[Any] = column
        _check(items, kinds, low, high)
        return items
    if kind not in kinds:
        raise MalformedError("a column is something of a wrong type")
    if kind is int and not low <= column <= high:
        raise MalformedError("a column is a number out of range")
    return [column] * count


def _check(values: Sequence[Any], kinds: frozenset[type], low: int, high: int) -> None:
    found = set(map(type, values))
    if not found <= kinds:
        raise MalformedError("a column holds something of a wrong type")
    if int in found:
        numbers = values if len(found) == 1 else [value for value in values if type(value) is int]
        if min(numbers) < low or max(numbers) > high:
            raise MalformedError("a column holds a number out of range")


def _series(
    devices: list[Any],
    series: list[Any],
    indices: Any,  # noqa: ANN401 - as `_expanded`
    count: int,
) -> tuple[list[str], list[int], list[int]]:
    """Device, metric and exponent of each record."""
    table = _table(devices, series)
    places = _expanded(indices, count, _INTEGER, 0, len(table) - 1)
    if len(table) == 1:
        (device, metric, exponent) = table[0]
        return [device] * count, [metric] * count, [exponent] * count
    names, metrics, exponents = map(list, zip(*map(table.__getitem__, places), strict=True))
    return names, metrics, exponents


def _table(devices: Sequence[Any], series: Iterable[Any]) -> list[tuple[str, int, int]]:
    """Device, metric and exponent of each series; a series may carry further items, which are ignored."""
    if not _TEXT.issuperset(map(type, devices)):
        raise MalformedError("a device is text")
    table = []
    for each in series:
        match each:
            case [int(device), int(metric), int(exponent), *_] if (
                0 <= device < len(devices) and 0 <= metric <= _MAX_METRIC and exponent in _EXPONENTS
            ):
                table.append((devices[device], metric, exponent))
            case _:
                raise MalformedError("a series is [device index, metric, exponent]")
    return table


def _times(base_ms: int, deltas: Any, count: int) -> list[int]:  # noqa: ANN401 - as `_expanded`
    times = list(accumulate(_expanded(deltas, count, _INTEGER), initial=base_ms))
    if min(times) < 0 or max(times) > cbor.MAX_INT:
        raise MalformedError("a time is out of range")
    del times[0]
    return times


def _extras(extras: list[Any], count: int) -> dict[int, list[ExtraValue]]:
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
        case [int(time_ms), str(code), list(details), *more] if cbor.is_uint(time_ms):
            _check(details, _EXTRA, -cbor.MAX_INT, cbor.MAX_INT)
            boot = more[0] if more and isinstance(more[0], bytes) and len(more[0]) == ID_BYTES else None
            return Event(time_ms, code, tuple(details), boot)
    raise MalformedError("an event is [time, code, details]")
