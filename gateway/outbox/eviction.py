"""What the receiver will never get, put so that it can be told. Sans-IO."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from gateway.envelope.layout import NO_HASH
from gateway.model import Hole, StreamSpan
from gateway.outbox.framing import Trailer

Range = tuple[bytes, int, int]
"""Chain, first and last bundle."""


def lost_with(trailers: Iterable[Trailer], ranges: Sequence[Range], cause: str) -> tuple[Hole, ...]:
    """Return the holes that a segment leaves when it goes: its unreceipted `ranges`, and what their bundles had told.

    `trailers` are all that can be read of it.
    """
    gone: dict[Range, list[Trailer]] = {each: [] for each in ranges}
    for trailer in trailers:
        for chain, first, last in ranges:
            if trailer.link.chain == chain and first <= trailer.link.no <= last:
                gone[chain, first, last].append(trailer)
    holes = [_hole(each, inside, cause) for each, inside in gone.items()]
    return merged(holes + [hole for inside in gone.values() for trailer in inside for hole in trailer.told])


def _hole(lost: Range, inside: Sequence[Trailer], cause: str) -> Hole:
    chain, first, last = lost
    digest = next((each.link.hash for each in inside if each.link.no == last), NO_HASH)
    return Hole(chain, first, last, digest, cause, _by_stream(span for each in inside for span in each.spans))


def merged(holes: Iterable[Hole]) -> tuple[Hole, ...]:
    """Return the same with neighbours of one chain and cause as one, and without what another covers."""
    found: list[Hole] = []
    for _, same in groupby(sorted(holes, key=_order), lambda hole: (hole.chain, hole.cause)):
        run: Hole | None = None
        for hole in same:
            if run is None or hole.first > run.last + 1:
                found.append(run := hole)
            elif hole.last > run.last:
                run = replace(run, last=hole.last, hash=hole.hash, spans=_by_stream(run.spans + hole.spans))
                found[-1] = run
    return tuple(found)


def _order(hole: Hole) -> tuple[bytes, str, int, int]:
    return hole.chain, hole.cause, hole.first, -hole.last


def _by_stream(spans: Iterable[StreamSpan]) -> tuple[StreamSpan, ...]:
    """Return one span a stream: records of a stream are numbered without a hole from bundle to bundle."""
    found: dict[bytes, StreamSpan] = {}
    for span in spans:
        known = found.get(span.stream, span)
        found[span.stream] = StreamSpan(
            span.stream,
            min(known.first, span.first),
            span.count if known is span else known.count + span.count,
            min(known.from_ms, span.from_ms),
            max(known.to_ms, span.to_ms),
        )
    return tuple(found.values())
