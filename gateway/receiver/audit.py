"""Checks a whole store against what gateways signed, and says of everything that is missing why it is.

What is unexplained is for a person: bundles that never came and that no gateway gave up, messages that do not verify,
forks. What may still come, behind the last bundle of a chain that nobody continued, nobody can miss.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from gateway.receiver.archive import Archive, Chain
from gateway.receiver.audit_heads import changes
from gateway.receiver.chain_audit import UNEXPLAINED, ChainAudit, ChainReport, Hole
from gateway.receiver.judging import Judge, Judged, Signed
from gateway.receiver.plan import ChainKey

_ABSENT = -1
"""A chain of which the store has nothing: no chain has this number."""
_NONE: tuple[ChainKey | None, Iterable[Judged]] = (None, ())
_MOST_LISTED = 1000
"""Entries of one list of the report; the numbers count all."""

Report = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with the bundles gone through, and those that there are."""


def audit(archive: Archive, judge: Judge, *, stream: bytes | None, on_progress: Progress) -> Report:
    """Audit all chains, or those with records of `stream`; the report is JSON-ready.

    {"gateways": {id: {"chains", "bundles", "verified", "erased", "missing": [{"chain", "first", "last", "cause"}, ...],
    "findings": [{"chain", "no", "cause"}, ...], "forks": [the same, ...], "audit_log": {"entries", "head", "changes":
    [the same, ...]}, "streams": {hex: {"first_ms", "last_ms", "records", "readings", "missing", "gaps": [as missing,
    ...]}}}}, "bundles", "verified", "parked", "unexplained",
    "verdict": "clean" or "unexplained"}. Raises what the archive raises.
    """
    writer = _Writer(archive, stream)
    total, done = archive.bundles(), 0

    def count() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    chains = archive.chains(stream)
    judged = groupby(judge(_signed(archive, chains)), key=lambda each: each.chain)
    key, bundles = next(judged, _NONE)
    for gateway, members in groupby(chains, key=lambda each: each.key.gateway):
        evicted, named = archive.evictions(gateway), archive.named(gateway)
        present = list(members)
        absent = named.keys() - {each.key.chain for each in present} if stream is None else ()
        for chain in (*present, *(Chain(_ABSENT, ChainKey(gateway, each)) for each in sorted(absent))):
            told, last = evicted.get(chain.key.chain, []), named.get(chain.key.chain, -1)
            here = chain.key == key
            its = bundles if here else ()
            writer.add(chain, ChainAudit(archive, chain, its, evicted=told, named=last, on_bundle=count).run())
            if here:
                key, bundles = next(judged, _NONE)
        if stream is None:
            writer.add_audit_log(gateway)
    return writer.finish()


def _signed(archive: Archive, chains: Iterable[Chain]) -> Iterator[Signed]:
    for chain in chains:
        for each in archive.signed(chain):
            yield Signed(chain.key, *each)


class _Writer:
    """Sums chains up."""

    def __init__(self, archive: Archive, stream: bytes | None) -> None:
        self._archive = archive
        self._only = stream
        self._unexplained = 0
        self._gateways: dict[str, Report] = {}

    def add(self, chain: Chain, report: ChainReport) -> None:
        gateway = self._gateway(chain.key.gateway)
        gateway["chains"] += 1
        gateway["bundles"] += report.bundles
        gateway["verified"] += report.verified
        gateway["erased"] += report.erased
        self._unexplained += len(report.findings)
        for finding in report.findings:
            _list(gateway["findings"], {"chain": _hex(chain), "no": finding.no, "cause": finding.cause})
        for hole in report.holes:
            self._hole(gateway["missing"], chain, hole)
        for stream, coverage in report.streams.items():
            if self._only in {None, stream}:
                entry = self._stream(gateway, stream)
                entry["records"] += sum(run.last - run.first + 1 for run in coverage.runs)
                for hole in report.missing.get(stream, ()):
                    entry["missing"] += hole.last - hole.first + 1
                    self._hole(entry["gaps"], chain, hole)
        for stream, run, cause in self._archive.gaps(chain):
            if self._only in {None, stream}:
                entry = self._stream(gateway, stream)
                entry["records"] -= run.last - run.first + 1
                self._hole(entry["gaps"], chain, Hole(run.first, run.last, cause))

    def add_audit_log(self, gateway: str) -> None:
        """What the gateway said of its own audit log."""
        heads = self._archive.audit_heads(gateway)
        before = {chain: predecessor for chain, predecessor, _ in self._archive.ends(gateway)}
        log = self._gateway(gateway)["audit_log"]
        newest = max((head for told in heads.values() for head in told), key=lambda head: head.no, default=None)
        if newest:
            log |= {"entries": newest.no, "head": newest.hash.hex()}
        for change in changes(heads, before, self._archive.restores(gateway)):
            entry = {"chain": change.chain.hex(), "no": change.head.no, "cause": change.cause}
            _list(log["changes"], entry)
            self._unexplained += 1

    def finish(self) -> Report:
        for name, cause, chain, no, _ in self._archive.forks():
            if self._only is None or name in self._gateways:
                _list(self._gateway(name)["forks"], {"chain": chain.hex(), "no": no, "cause": cause})
                self._unexplained += 1
        for table in ("reading_rows", "event_rows"):
            for name, stream, count, first_ms, last_ms in self._archive.times(table):
                entry = self._gateways.get(name, {}).get("streams", {}).get(stream.hex())
                if entry is not None:
                    entry["readings"] += count if table == "reading_rows" else 0
                    entry["first_ms"] = min(first_ms, entry["first_ms"] or first_ms)
                    entry["last_ms"] = max(last_ms, entry["last_ms"] or last_ms)
        gateways = self._gateways.values()
        return {
            "gateways": self._gateways,
            "bundles": sum(each["bundles"] for each in gateways),
            "verified": sum(each["verified"] for each in gateways),
            "parked": self._archive.parked(),
            "unexplained": self._unexplained,
            "verdict": UNEXPLAINED if self._unexplained else "clean",
        }

    def _hole(self, where: list[Report], chain: Chain, hole: Hole) -> None:
        _list(where, {"chain": _hex(chain), "first": hole.first, "last": hole.last, "cause": hole.cause})
        self._unexplained += hole.cause == UNEXPLAINED

    def _gateway(self, name: str) -> Report:
        empty: Report = {"chains": 0, "bundles": 0, "verified": 0, "erased": 0}
        empty |= {"missing": [], "findings": [], "forks": [], "streams": {}}
        return self._gateways.setdefault(name, empty | {"audit_log": {"entries": 0, "head": None, "changes": []}})

    def _stream(self, gateway: Report, stream: bytes) -> Report:
        empty = {"first_ms": None, "last_ms": None, "records": 0, "readings": 0, "missing": 0}
        entry: Report = gateway["streams"].setdefault(stream.hex(), {**empty, "gaps": []})
        return entry


def _list(where: list[Report], entry: Report) -> None:
    if len(where) < _MOST_LISTED:
        where.append(entry)


def _hex(chain: Chain) -> str:
    return chain.key.chain.hex()
