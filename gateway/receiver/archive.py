"""Reads what a store keeps, chain by chain and row by row, in SQL that both databases understand."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.envelope.layout import self_stream, urgent_root
from gateway.model import Link
from gateway.receiver.audit_heads import AuditHead
from gateway.receiver.coverage import Run
from gateway.receiver.plan import ChainKey

_EVICTION = "eviction"
_ID, _DIGEST = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")

Rows = Callable[[str, tuple[object, ...]], Iterable[tuple[Any, ...]]]
"""Runs one of the queries below, `?` standing for a value; rows come as they are asked for."""

_CHAINS = "SELECT id, gateway, chain FROM chains ORDER BY gateway, id"
_CHAINS_OF_STREAM = """
SELECT DISTINCT chains.id, chains.gateway, chain FROM chains JOIN record_runs ON record_runs.chain_id = chains.id
JOIN streams ON streams.id = record_runs.stream_id WHERE stream = ? ORDER BY chains.gateway, chains.id
"""
_SIGNED = "SELECT no, hash, sign1 FROM bundles WHERE chain_id = ? ORDER BY no"
_HASH = """
SELECT hash FROM bundles JOIN chains ON chains.id = chain_id WHERE gateway = ? AND chain = ? AND no = ?
"""
_EPOCHS = """
SELECT epoch, stream, part FROM epoch_parts JOIN streams ON streams.id = stream_id WHERE chain_id = ?
"""
_RECORDS = """
SELECT stream, first, last FROM record_runs JOIN streams ON streams.id = stream_id
WHERE chain_id = ? ORDER BY stream, first
"""
_GAPS = "SELECT stream, first, count, cause FROM gap_rows JOIN streams ON streams.id = stream_id WHERE chain_id = ?"
_PREDECESSORS = "SELECT predecessor, predecessor_no FROM chains WHERE gateway = ? AND predecessor IS NOT NULL"
_ENDS = """
SELECT chain, predecessor, no, hash FROM chains LEFT JOIN bundles ON bundles.chain_id = chains.id
AND no = (SELECT max(no) FROM bundles WHERE chain_id = chains.id) WHERE gateway = ? ORDER BY chains.id
"""
_EVENTS = """
SELECT DISTINCT details FROM event_rows JOIN streams ON streams.id = stream_id
WHERE gateway = ? AND stream = ? AND code IN (?, ?)
"""
_HEADS = """
SELECT chain, details FROM event_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id
WHERE streams.gateway = ? AND stream = ? AND code = 'audit-head' ORDER BY chains.id, seq
"""
_FORKS = "SELECT gateway, cause, chain, no, hash FROM forks ORDER BY gateway, chain, no, cause"
_TIMES = """
SELECT gateway, stream, count(*), min(time_ms), max(time_ms)
FROM {table} JOIN streams ON streams.id = stream_id GROUP BY gateway, stream ORDER BY gateway, stream
"""
_PARKED = "SELECT count(*) FROM parked"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of the store and its number there."""

    id: int
    key: ChainKey


@dataclass(frozen=True, slots=True)
class Evicted:
    """Bundles that a gateway signed that it had to forget."""

    run: Run
    cause: str


class Archive:
    """One snapshot of a store. Whatever its database raises goes to the caller."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def chains(self, stream: bytes | None) -> list[Chain]:
        """All chains, or those in which a stream has records."""
        rows = self._rows(_CHAINS, ()) if stream is None else self._rows(_CHAINS_OF_STREAM, (stream,))
        return [Chain(number, ChainKey(gateway, bytes(chain))) for number, gateway, chain in rows]

    def bundles(self) -> int:
        """How many bundles there are."""
        return self._number("SELECT count(*) FROM bundles")

    def parked(self) -> int:
        """How many wait for their epoch."""
        return self._number(_PARKED)

    def signed(self, chain: Chain) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, hash and signed message of each bundle, ascending; an empty message if it is not kept any more."""
        for no, digest, sign1 in self._rows(_SIGNED, (chain.id,)):
            yield no, bytes(digest), bytes(sign1 or b"")

    def hash_of(self, key: ChainKey, no: int) -> bytes | None:
        """The hash of a stored bundle."""
        return next((bytes(digest) for (digest,) in self._rows(_HASH, (*key, no))), None)

    def epochs(self, chain: Chain) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, stream and part of each epoch that is kept."""
        for epoch, stream, part in self._rows(_EPOCHS, (chain.id,)):
            yield epoch, bytes(stream), bytes(part)

    def records(self, chain: Chain) -> Iterator[tuple[bytes, Run]]:
        """Which records of each stream the store says that it has."""
        for stream, first, last in self._rows(_RECORDS, (chain.id,)):
            yield bytes(stream), Run(first, last)

    def gaps(self, chain: Chain) -> Iterator[tuple[bytes, Run, str]]:
        """Records that were numbered and never durable, with the cause that the gateway signed."""
        for stream, first, count, cause in self._rows(_GAPS, (chain.id,)):
            yield bytes(stream), Run(first, first + count - 1), cause

    def named(self, gateway: str) -> dict[bytes, int]:
        """The highest bundle of each chain that must be: another chain continues it, or a heartbeat names it."""
        named: dict[bytes, int] = {}
        for chain, no in self._rows(_PREDECESSORS, (gateway,)):
            named[bytes(chain)] = max(no, named.get(bytes(chain), 0))
        for details in self._events(gateway, "heartbeat", "shutdown"):
            match details:
                case [str(text), int(no), str(digest), *_] if _ID.fullmatch(text) and _DIGEST.fullmatch(digest):
                    chain = bytes.fromhex(text)
                    named[chain] = max(no, named.get(chain, 0))
        named.pop(urgent_root(gateway), None)
        return named

    def ends(self, gateway: str) -> list[tuple[bytes, bytes | None, Link | None]]:
        """Of each chain, in the order in which they came: the one before it, and its last bundle that is stored."""
        return [
            (
                bytes(chain),
                predecessor and bytes(predecessor),
                None if no is None else Link(bytes(chain), no, bytes(digest)),
            )
            for chain, predecessor, no, digest in self._rows(_ENDS, (gateway,))
        ]

    def evictions(self, gateway: str) -> dict[bytes, list[Evicted]]:
        """What a gateway had to forget, by chain."""
        found: dict[bytes, list[Evicted]] = {}
        for details in self._events(gateway, _EVICTION, _EVICTION):
            match details:
                case [str(chain), int(first), int(last), str(digest), *more] if (
                    _ID.fullmatch(chain) and _DIGEST.fullmatch(digest) and 0 <= first <= last
                ):
                    cause = str(more[0]) if more else _EVICTION
                    run = Run(first, last, bytes.fromhex(digest))
                    found.setdefault(bytes.fromhex(chain), []).append(Evicted(run, cause))
        return found

    def audit_heads(self, gateway: str) -> dict[bytes, list[AuditHead]]:
        """What each chain said of the gateway's audit log, in that order."""
        found: dict[bytes, list[AuditHead]] = {}
        for chain, details in self._rows(_HEADS, (gateway, self_stream(gateway))):
            match json.loads(details):
                case [str(digest), int(no), *_] if _DIGEST.fullmatch(digest):
                    found.setdefault(bytes(chain), []).append(AuditHead(no, bytes.fromhex(digest)))
        return found

    def restores(self, gateway: str) -> int:
        """How often it was made anew from a backup."""
        return sum(details[:1] == ["restored"] for details in self._events(gateway, "security", "security"))

    def _events(self, gateway: str, *codes: str) -> Iterator[Any]:
        """What a gateway's own events of two codes say."""
        for (details,) in self._rows(_EVENTS, (gateway, self_stream(gateway), *codes)):
            yield json.loads(details)

    def forks(self) -> Iterator[tuple[str, str, bytes, int, bytes]]:
        """Gateway, cause, chain, number and hash of each fork."""
        for gateway, cause, chain, no, digest in self._rows(_FORKS, ()):
            yield gateway, cause, bytes(chain), no, bytes(digest)

    def times(self, table: str) -> Iterator[tuple[str, bytes, int, int, int]]:
        """Per gateway and stream: rows of `reading_rows` or `event_rows`, their first and last time."""
        for gateway, stream, count, first_ms, last_ms in self._rows(_TIMES.format(table=table), ()):
            yield gateway, bytes(stream), count, first_ms, last_ms

    def _number(self, query: str) -> int:
        [(number,)] = self._rows(query, ())
        return int(number)
