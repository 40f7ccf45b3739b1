"""A plan as rows, in the order in which both stores keep them. Sans-IO."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, repeat
from typing import Any, NamedTuple

from gateway.model import Gap
from gateway.receiver.coverage import Coverage, Run
from gateway.receiver.plan import ChainKey, NewEpoch, Plan, ReadingColumns, SeriesKey, as_json

READING = (
    *("stream_id", "source_id", "chain_id", "seq", "metric", "mantissa", "time_ms", "sequence", "received_ms"),
    *("exponent", "quality", "backfilled", "extras"),
)
"""The columns of a reading."""

Row = tuple[Any, ...]


class Source(NamedTuple):
    """What readings of a stream come from: a device, in one of its sessions if it has them."""

    gateway: str
    stream: bytes
    device: str
    session: str | None


class Rows:
    """What a plan adds. Whoever writes it enters which number each chain, stream and source has in the store."""

    def __init__(self, plan: Plan, now_ms: int) -> None:
        self._plan = plan
        self._now_ms = now_ms
        self._readings = [
            (part, part.content, _sources(part.series, part.content))
            for part in plan.parts
            if isinstance(part.content, ReadingColumns)
        ]
        self.chain_ids: dict[tuple[str, bytes], int] = {}
        self.stream_ids: dict[tuple[str, bytes], int] = {}
        self.source_ids: dict[Source, int] = {}

    def chains(self) -> dict[ChainKey, bytes | None]:
        """All chains, each with its signer as far as the plan tells it."""
        plan = self._plan
        signers: dict[ChainKey, bytes | None] = {each.chain: None for each in plan.explained}
        signers |= {each.chain: None for each in plan.tombstones}
        signers |= {ChainKey(each.gateway, each.opened.chain): each.signer_kid for each in plan.epochs}
        return signers | {ChainKey(each.gateway, each.chain): each.signer_kid for each in plan.bundles}

    def streams(self) -> set[tuple[str, bytes]]:
        """(gateway, stream) of all streams."""
        streams = {(part.series.gateway, part.series.stream) for part in self._plan.parts}
        streams |= {(each.gateway, each.opened.stream) for each in self._plan.epochs}
        return streams | {(each.chain.gateway, each.stream) for each in self._plan.tombstones}

    def sources(self) -> dict[Source, None]:
        """Of all readings, each once."""
        return {source: None for _, _, sources in self._readings for source in sources.values()}

    def openings(self) -> Iterator[Row]:
        """Chain, and what its first bundle says of the one before: is root, predecessor, its last number, its hash."""
        for each in self._plan.bundles:
            if each.no == 0:
                before = each.predecessor or (None, None)
                yield self.chain_ids[each.gateway, each.chain], int(each.predecessor is None), *before, each.prev

    def epochs(self) -> Iterator[tuple[Row, NewEpoch]]:
        """(chain, epoch, stream) of each new epoch, and all of it."""
        for each in self._plan.epochs:
            opened = each.opened
            place = (self.chain_ids[each.gateway, opened.chain], opened.epoch)
            yield (*place, self.stream_ids[each.gateway, opened.stream]), each

    def tombstones(self) -> Iterator[Row]:
        """Chain, epoch, stream."""
        for each in self._plan.tombstones:
            yield self.chain_ids[each.chain], each.epoch, self.stream_ids[each.chain.gateway, each.stream]

    def runs(self) -> dict[int, Coverage]:
        """By chain: which bundles are here, where that has changed."""
        return {self.chain_ids[key]: coverage for key, coverage in self._plan.runs.items() if coverage.changed}

    def explained(self) -> dict[int, list[Run]]:
        """By chain: bundles that will never come."""
        runs: dict[int, list[Run]] = {}
        for each in self._plan.explained:
            runs.setdefault(self.chain_ids[each.chain], []).append(each.run)
        return runs

    def record_runs(self) -> tuple[list[Row], list[Row]]:
        """(stream, chain, first) of runs that are no more; the same and last of those that are new or longer."""
        gone, changed = [], []
        for key, coverage in self._plan.series.items():
            fresh = coverage.changed
            if fresh:
                ids = self._series(key)
                gone += [(*ids, first) for first in coverage.gone]
                changed += [(*ids, run.first, run.last) for run in fresh]
        return gone, changed

    def readings(self) -> Iterator[tuple[Iterable[Any], ...]]:
        """The columns of each part, as `READING`; the first ones end with it."""
        for part, columns, sources in self._readings:
            stream_id, chain_id = self._series(part.series)
            ids = {names: self.source_ids[source] for names, source in sources.items()}
            named = map(ids.__getitem__, zip(columns.device, columns.session, strict=True))
            yield (
                repeat(stream_id, part.count),
                repeat(next(named), part.count) if len(ids) == 1 else named,
                repeat(chain_id, part.count),
                count(part.first),
                columns.metric,
                columns.mantissa,
                columns.time_ms,
                columns.sequence,
                repeat(self._now_ms),
                columns.exponent,
                columns.quality,
                columns.backfilled,
                columns.extras,
            )

    def events(self) -> Iterator[Row]:
        """Stream, chain, seq, time, code, details as a JSON array with byte strings in hex, when it arrived."""
        for part in self._plan.parts:
            if isinstance(part.content, tuple):
                ids = self._series(part.series)
                for seq, event in enumerate(part.content, part.first):
                    yield *ids, seq, event.time_ms, _text(event.code), as_json(event.details), self._now_ms

    def gaps(self) -> Iterator[Row]:
        """Stream, chain, first, count, cause, from, to, when it arrived."""
        for part in self._plan.parts:
            if isinstance(gap := part.content, Gap):
                times = (gap.from_ms, gap.to_ms, self._now_ms)
                yield *self._series(part.series), part.first, gap.count, _text(gap.cause), *times

    def boot_times(self) -> Iterator[tuple[Row, int, int | None]]:
        """(stream, chain, seq, gateway, boot, since boot, uncertainty) of each, its time, its place among the readings.

        Events have no place, and 0 for their time: they are found by their number.
        """
        before = 0
        for part in self._plan.parts:
            content = part.content if isinstance(part.content, ReadingColumns) else None
            for time in part.boot_times:
                told = (time.no, part.series.gateway, time.boot, time.boot_ms, time.uncertainty_ms)
                row, place = (*self._series(part.series), *told), time.no - part.first
                yield (row, 0, None) if content is None else (row, content.time_ms[place], before + place)
            before += part.count if content else 0

    def _series(self, key: SeriesKey) -> tuple[int, int]:
        return self.stream_ids[key.gateway, key.stream], self.chain_ids[key.gateway, key.chain]


def bundle_runs(coverages: Mapping[int, Coverage]) -> tuple[list[Row], list[Row]]:
    """(chain, first) of runs that are no more; (chain, first, last, hash) of those that are new or longer."""
    gone = [(chain, first) for chain, coverage in coverages.items() for first in coverage.gone]
    return gone, [(chain, *run) for chain, coverage in coverages.items() for run in coverage.changed]


def _sources(series: SeriesKey, columns: ReadingColumns) -> dict[tuple[str, str | None], Source]:
    """By device and session as they are told; an empty session is none."""
    return {
        (device, session): Source(series.gateway, series.stream, _text(device), _text(session) if session else None)
        for device, session in set(zip(columns.device, columns.session, strict=True))
    }


def _text(value: str) -> str:
    """Databases hold U+0000 in no text, or not well; the archive holds what was sent."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}")
