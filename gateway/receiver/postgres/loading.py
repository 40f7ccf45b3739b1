"""Reads from PostgreSQL what a set of bundles touches, a few statements for all of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import Connection

from gateway.envelope.open import OpenEpoch, SignedBundle
from gateway.receiver.coverage import Coverage, Run
from gateway.receiver.plan import BundleKey, ChainKey, SeriesKey, State, Stored, Successor

LOCK = "SELECT 1 FROM gateways WHERE gateway = ANY(%s) ORDER BY gateway FOR UPDATE"
_REGISTER = "INSERT INTO gateways SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING"
_WANTED_CHAINS = "FROM unnest(%s::text[], %s::bytea[]) AS wanted (gateway, chain) JOIN chains ON"
_CHAINS = f"""
SELECT chains.gateway, chains.chain, id, signer {_WANTED_CHAINS} chains.gateway = wanted.gateway
    AND chains.chain = wanted.chain
"""
_SUCCESSORS = f"""
SELECT chains.gateway, predecessor, chains.chain, predecessor_no, predecessor_hash {_WANTED_CHAINS}
    chains.gateway = wanted.gateway AND predecessor = wanted.chain
"""
_ROOTS = "SELECT gateway, chain FROM chains WHERE root = 1 AND gateway = ANY(%s)"
_RUNS = "SELECT chain_id, first, last, hash FROM bundle_runs WHERE chain_id = ANY(%s)"
_BUNDLES = """
SELECT chain_id, no, hash, prev FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (chain_id, no)
JOIN bundle_links USING (chain_id, no)
"""
_EPOCHS = """
SELECT chain_id, epoch, stream, secret, salt FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (chain_id, epoch)
JOIN epoch_secrets USING (chain_id, epoch) JOIN streams ON streams.id = stream_id
"""
_SERIES = """
SELECT chain_id, stream, first, last
FROM unnest(%s::bigint[], %s::text[], %s::bytea[]) AS wanted (chain_id, gateway, stream)
JOIN streams USING (gateway, stream) JOIN record_runs USING (chain_id) WHERE stream_id = streams.id
"""
_ERASED_STREAMS = "SELECT gateway, stream FROM streams WHERE erased_ms IS NOT NULL AND gateway = ANY(%s)"
_ERASED = "SELECT chain_id, epoch FROM erased_epochs WHERE chain_id = ANY(%s)"
_PARKED_OF = "SELECT gateway, count(*) FROM parked WHERE gateway = ANY(%s) GROUP BY gateway"
_PARKED = """
SELECT gateway, chain, no, hash
FROM unnest(%s::text[], %s::bytea[], %s::bigint[], %s::bytea[]) AS wanted (gateway, chain, no, hash)
JOIN parked USING (gateway, chain, no, hash)
"""


def load(connection: Connection, bundles: Sequence[SignedBundle]) -> State:
    """Lock the gateways of `bundles` until the transaction ends; the state that `ingest.decide` needs for them."""
    gateways = sorted({bundle.gateway for bundle in bundles})
    if len(connection.execute(LOCK, (gateways,)).fetchall()) < len(gateways):
        connection.execute(_REGISTER, (gateways,))
        connection.execute(LOCK, (gateways,))
    state = State()
    loader = _Loader(connection, state)
    loader.chains(bundles)
    loader.bundles(bundles)
    loader.epochs_and_series(bundles)
    state.erased_streams.update(connection.execute(_ERASED_STREAMS, (gateways,)).fetchall())
    [(state.parked_count,)] = connection.execute("SELECT count(*) FROM parked").fetchall()
    if state.parked_count:
        keys = [BundleKey.of(bundle) for bundle in bundles]
        state.parked_of.update(connection.execute(_PARKED_OF, (gateways,)).fetchall())
        state.parked.update(map(BundleKey._make, loader.rows(_PARKED, keys, 4)))
    return state


def coverages(connection: Connection, chain_ids: Iterable[int]) -> dict[int, Coverage]:
    """Which bundles of each chain are here, or explained."""
    found: dict[int, list[Run]] = {number: [] for number in chain_ids}
    for chain_id, *run in connection.execute(_RUNS, (list(found),)):
        found[chain_id].append(Run(*run))
    return {number: Coverage(runs) for number, runs in found.items()}


class _Loader:
    def __init__(self, connection: Connection, state: State) -> None:
        self._connection = connection
        self._state = state
        self._ids: dict[ChainKey, int] = {}
        self._keys: dict[int, ChainKey] = {}

    def rows(self, statement: str, keys: Iterable[Sequence[object]], width: int) -> list[tuple[Any, ...]]:
        """What `statement` finds for `keys`, which it takes as `width` arrays."""
        columns = list(zip(*keys, strict=True)) or [()] * width
        return self._connection.execute(statement.encode(), [list(column) for column in columns]).fetchall()

    def chains(self, bundles: Sequence[SignedBundle]) -> None:
        """The chains that arrived and that are named as predecessors: signers, runs, successors, roots."""
        arrived = {ChainKey(each.gateway, each.chain) for each in bundles}
        named = {ChainKey(each.gateway, each.predecessor[0]) for each in bundles if each.predecessor}
        wanted = sorted(arrived | named)
        for gateway, chain, number, signer in self.rows(_CHAINS, wanted, 2):
            key = ChainKey(gateway, chain)
            self._ids[key], self._keys[number] = number, key
            if signer is not None and key in arrived:
                self._state.signers[key] = signer
        for number, coverage in coverages(self._connection, self._keys).items():
            self._state.runs[self._keys[number]] = coverage
        self._state.successors = {key: {} for key in wanted}
        for gateway, predecessor, chain, no, prev in self.rows(_SUCCESSORS, wanted, 2):
            self._state.successors[ChainKey(gateway, predecessor)][chain] = Successor(no, prev)
        rooted = list({each.gateway for each in bundles if each.no == 0 and each.predecessor is None})
        if rooted:
            for gateway, chain in self._connection.execute(_ROOTS, (rooted,)):
                self._state.roots.setdefault(gateway, set()).add(chain)

    def bundles(self, bundles: Sequence[SignedBundle]) -> None:
        """The arrivals as far as they are stored, their neighbours, and the ends of the predecessors they name."""
        places = {
            (number, no)
            for each in bundles
            if (number := self._ids.get(ChainKey(each.gateway, each.chain)))
            for no in range(max(each.no - 1, 0), each.no + 2)
        }
        places |= {
            (number, each.predecessor[1])
            for each in bundles
            if each.predecessor and (number := self._ids.get(ChainKey(each.gateway, each.predecessor[0])))
        }
        for number, no, digest, prev in self.rows(_BUNDLES, places, 2):
            self._state.bundles.setdefault(self._keys[number], {})[no] = Stored(digest, prev)

    def epochs_and_series(self, bundles: Sequence[SignedBundle]) -> None:
        """The epochs that the arrivals declare or need, and which records of their streams are here."""
        wanted: set[tuple[int, int]] = set()
        series: set[tuple[int, str, bytes]] = set()
        for each in bundles:
            number = self._ids.get(ChainKey(each.gateway, each.chain))
            if number is not None:
                wanted |= {(number, part.epoch) for part in each.epochs} | {(number, part.epoch) for part in each.parts}
                series.update((number, each.gateway, part.stream) for part in each.epochs)
        for number, epoch, stream, secret, salt in self.rows(_EPOCHS, wanted, 2):
            key = self._keys[number]
            self._state.epochs.setdefault(key, {})[epoch] = OpenEpoch(key.chain, epoch, stream, secret, salt)
            series.add((number, key.gateway, stream))
        for number, epoch in self._connection.execute(_ERASED, (list(self._keys),)):
            self._state.erased_epochs.setdefault(self._keys[number], set()).add(epoch)
        runs: dict[SeriesKey, list[Run]] = {}
        for number, stream, first, last in self.rows(_SERIES, series, 3):
            key = self._keys[number]
            runs.setdefault(SeriesKey(key.gateway, stream, key.chain), []).append(Run(first, last))
        self._state.series.update((key, Coverage(found)) for key, found in runs.items())
