"""Reads from SQLite exactly what a set of bundles touches."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from gateway.envelope.open import OpenEpoch, SignedBundle
from gateway.receiver import queries
from gateway.receiver.coverage import Coverage, Run
from gateway.receiver.plan import BundleKey, ChainKey, SeriesKey, State, Stored, Successor

_AT_ONCE = 500
"""Parameters of one statement; SQLite takes at least 999."""


def load(database: sqlite3.Connection, bundles: Sequence[SignedBundle]) -> State:
    """The state that `ingest.decide` needs for `bundles`."""
    state = State()
    loader = _Loader(database, state)
    by_chain: dict[ChainKey, list[SignedBundle]] = {}
    for bundle in bundles:
        by_chain.setdefault(ChainKey(bundle.gateway, bundle.chain), []).append(bundle)
    for chain, members in by_chain.items():
        loader.chain(chain, members)
    for gateway in {bundle.gateway for bundle in bundles}:
        erased = database.execute(queries.ERASED_STREAMS, (gateway,))
        state.erased_streams.update((gateway, stream) for (stream,) in erased)
    [(state.parked_count,)] = database.execute("SELECT count(*) FROM parked")
    if state.parked_count:
        select = "SELECT count(*) FROM parked WHERE gateway = ?"
        for gateway in {bundle.gateway for bundle in bundles}:
            [(state.parked_of[gateway],)] = database.execute(select, (gateway,))
        loader.parked(bundles)
    return state


def load_runs(database: sqlite3.Connection, chain_id: int) -> Coverage:
    """Which bundles of a chain are here, or explained."""
    select = "SELECT first, last, hash FROM bundle_runs WHERE chain_id = ?"
    return Coverage(Run(*run) for run in database.execute(select, (chain_id,)))


class _Loader:
    def __init__(self, database: sqlite3.Connection, state: State) -> None:
        self._database = database
        self._state = state

    def chain(self, key: ChainKey, members: Sequence[SignedBundle]) -> None:
        """Everything about one chain and those of its bundles that arrived."""
        for bundle in members:
            if bundle.no == 0:
                self._predecessor(bundle)
        self._successors(key)
        identity = self._runs(key)
        if identity is None:
            return
        chain_id, signer = identity
        if signer is not None:
            self._state.signers[key] = signer
        self._erased(key, chain_id)
        self._bundles(key, chain_id, (no for each in members for no in (each.no - 1, each.no, each.no + 1)))
        streams = {part.stream for each in members for part in each.epochs}
        needed = {part.epoch for each in members for part in each.parts}
        declared = {part.epoch for each in members for part in each.epochs}
        streams |= self._epochs(key, chain_id, needed | declared)
        self._series(key, chain_id, streams)

    def parked(self, bundles: Iterable[SignedBundle]) -> None:
        """Which of `bundles` are parked."""
        select = "SELECT 1 FROM parked WHERE gateway = ? AND chain = ? AND no = ? AND hash = ?"
        keys = map(BundleKey.of, bundles)
        self._state.parked.update(key for key in keys if self._database.execute(select, key).fetchone())

    def _runs(self, key: ChainKey) -> tuple[int, bytes | None] | None:
        """Load a chain's runs; its number here and its signer, as far as they are known."""
        select = "SELECT id, signer FROM chains WHERE gateway = ? AND chain = ?"
        row: tuple[int, bytes | None] | None = self._database.execute(select, key).fetchone()
        if row is not None and key not in self._state.runs:
            self._state.runs[key] = load_runs(self._database, row[0])
        return row

    def _bundles(self, key: ChainKey, chain_id: int, numbers: Iterable[int]) -> None:
        known = self._state.bundles.setdefault(key, {})
        select = "SELECT no, hash, prev FROM bundles WHERE chain_id = ? AND no IN ({})"
        for number, *row in self._each(select, (chain_id,), set(numbers)):
            known[number] = Stored(*row)

    def _predecessor(self, bundle: SignedBundle) -> None:
        """What a chain's first bundle is compared with."""
        if bundle.predecessor is None:
            select = "SELECT chain FROM chains WHERE gateway = ? AND root = 1"
            roots = self._database.execute(select, (bundle.gateway,))
            self._state.roots.setdefault(bundle.gateway, set()).update(chain for (chain,) in roots)
            return
        key = ChainKey(bundle.gateway, bundle.predecessor[0])
        self._successors(key)
        identity = self._runs(key)
        if identity is not None:
            self._bundles(key, identity[0], [bundle.predecessor[1]])

    def _successors(self, key: ChainKey) -> None:
        select = "SELECT chain, predecessor_no, predecessor_hash FROM chains WHERE gateway = ? AND predecessor = ?"
        rows = self._database.execute(select, key)
        self._state.successors[key] = {chain: Successor(no, prev) for chain, no, prev in rows}

    def _epochs(self, key: ChainKey, chain_id: int, numbers: Iterable[int]) -> set[bytes]:
        """Load opened epochs; the streams they belong to."""
        known = self._state.epochs.setdefault(key, {})
        select = (
            "SELECT epoch, stream, secret, salt FROM epoch_secrets JOIN streams ON streams.id = stream_id"
            " WHERE chain_id = ? AND epoch IN ({})"
        )
        for number, *row in self._each(select, (chain_id,), numbers):
            known[number] = OpenEpoch(key.chain, number, *row)
        return {epoch.stream for epoch in known.values()}

    def _erased(self, key: ChainKey, chain_id: int) -> None:
        select = "SELECT epoch FROM erased_epochs WHERE chain_id = ?"
        self._state.erased_epochs[key] = {epoch for (epoch,) in self._database.execute(select, (chain_id,))}

    def _series(self, key: ChainKey, chain_id: int, streams: Collection[bytes]) -> None:
        """Load which records of some streams are here."""
        select = (
            "SELECT stream, first, last FROM streams JOIN record_runs ON stream_id = streams.id AND chain_id = ?"
            " WHERE gateway = ? AND stream IN ({})"
        )
        runs: dict[bytes, list[Run]] = {}
        for stream, first, last in self._each(select, (chain_id, key.gateway), streams):
            runs.setdefault(stream, []).append(Run(first, last))
        for stream in streams:
            self._state.series[SeriesKey(key.gateway, stream, key.chain)] = Coverage(runs.get(stream, ()))

    def _each(self, select: str, first: tuple[object, ...], wanted: Iterable[int | bytes]) -> Iterator[tuple[Any, ...]]:
        """Rows for each of `wanted`, whose places in `select` are named by {}; many at a time."""
        waiting = iter(wanted)
        while some := tuple(islice(waiting, _AT_ONCE)):
            yield from self._database.execute(select.format(",".join("?" * len(some))), (*first, *some))
