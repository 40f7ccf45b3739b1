"""Goes through one chain of an archive: what is there, what is missing and why, what is not as it was signed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.envelope import layout
from gateway.errors import EpochHashError
from gateway.receiver.archive import Archive, Chain, Evicted
from gateway.receiver.coverage import Coverage, Run
from gateway.receiver.judging import Judged, Said

UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers that are missing, and why; `unexplained` if nobody said."""

    first: int
    last: int
    cause: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the archive that is not as its gateway signed it."""

    no: int
    cause: str


@dataclass(slots=True)
class ChainReport:
    """What became of a chain."""

    bundles: int = 0
    verified: int = 0
    erased: int = 0
    """Signed messages or epoch parts that are not kept any more."""
    holes: list[Hole] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    streams: dict[bytes, Coverage] = field(default_factory=dict)
    missing: dict[bytes, list[Hole]] = field(default_factory=dict)
    """Records of each stream that are missing below its last one here."""


class ChainAudit:
    """`run` audits one chain of `archive`; memory grows with its streams, epochs and holes, not with its bundles.

    `bundles` are those of the chain, judged and ascending.
    `evicted` is what the chain's gateway signed that it had to forget, `named` the highest bundle that it says there
    is, or -1; `on_bundle` is called after each bundle.
    """

    def __init__(
        self,
        archive: Archive,
        chain: Chain,
        bundles: Iterable[Judged],
        *,
        evicted: list[Evicted],
        named: int,
        on_bundle: Callable[[], None],
    ) -> None:
        self._archive = archive
        self._chain = chain
        self._bundles = bundles
        self._evicted = sorted(evicted, key=lambda each: each.run)
        self._named = named
        self._on_bundle = on_bundle
        self._report = ChainReport()
        self._epochs: dict[int, bytes] = {}
        self._parts: set[bytes] = set()
        self._stream_places: dict[bytes, tuple[int, int]] = {}
        """The next record of each stream, and the bundle with the last one."""
        self._next = 0
        self._last_hash: bytes | None = None

    def run(self) -> ChainReport:
        """Raises what the archive raises, and nothing for what a gateway sent."""
        report = self._report
        for epoch, stream, part in self._archive.epochs(self._chain):
            self._epochs[epoch] = stream
            self._parts.add(layout.sha256(part))
        for bundle in self._bundles:
            self._miss_until(bundle.no)
            self._take(bundle)
            self._next, self._last_hash = bundle.no + 1, bundle.hash
            report.bundles += 1
            self._on_bundle()
        self._miss_until(self._named + 1)
        if not report.findings:
            self._compare_rows()
        return report

    def _take(self, bundle: Judged) -> None:
        if bundle.cause is not None:
            self._report.findings.append(Finding(bundle.no, bundle.cause))
            return
        if bundle.said is None:
            self._report.erased += 1
            return
        self._report.verified += 1
        if self._expected_prev(bundle.no, bundle.said) not in {None, bundle.said.prev}:
            self._report.findings.append(Finding(bundle.no, "broken-link"))
        for each in bundle.said.epoch_hashes:
            if each in self._parts:
                self._parts.remove(each)
            else:
                self._report.erased += 1
        for epoch, first, count in bundle.said.parts:
            self._count(epoch, first, count, bundle.no)

    def _expected_prev(self, no: int, said: Said) -> bytes | None:
        """What must be its previous hash; None if nobody knows."""
        if no > 0:
            before = next((each for each in self._evicted if each.run.last == no - 1), None)
            return self._last_hash or (_known(before.run.hash) if before else None)
        if said.predecessor is None:
            return layout.NO_HASH
        chain, last = said.predecessor
        return self._archive.hash_of(self._chain.key._replace(chain=chain), last)

    def _miss_until(self, no: int) -> None:
        """Bundles from the next expected one to before `no` are not here."""
        if self._next >= no:
            return
        for each in self._evicted:
            first, last = max(each.run.first, self._next), min(each.run.last, no - 1)
            if first <= last:
                if first > self._next:
                    self._report.holes.append(Hole(self._next, first - 1, UNEXPLAINED))
                self._report.holes.append(Hole(first, last, each.cause))
                self._next = last + 1
        if self._next < no:
            self._report.holes.append(Hole(self._next, no - 1, UNEXPLAINED))
        self._next, self._last_hash = no, None

    def _count(self, epoch: int, first: int, count: int, no: int) -> None:
        stream = self._epochs.get(epoch)
        if stream is None:
            return
        expected, before = self._stream_places.get(stream, (0, -1))
        if first > expected:
            hole = Hole(expected, first - 1, self._why(before, no))
            self._report.missing.setdefault(stream, []).append(hole)
        self._report.streams.setdefault(stream, Coverage()).add(Run(first, first + count - 1))
        self._stream_places[stream] = max(expected, first + count), no

    def _why(self, before: int, no: int) -> str:
        """Why records between two bundles are missing: the bundles between are."""
        causes = {hole.cause for hole in self._report.holes if before < hole.last and hole.first < no}
        return UNEXPLAINED if UNEXPLAINED in causes or not causes else min(causes)

    def _compare_rows(self) -> None:
        """Epoch parts and the numbers of records must be those that the archive holds, as far as it is whole."""
        if self._parts and not self._report.holes and not self._archive.parked():
            self._report.findings.append(Finding(self._next - 1, EpochHashError.cause))
        if self._report.erased:
            return
        stored: dict[bytes, list[Run]] = {}
        for stream, run in self._archive.records(self._chain):
            stored.setdefault(stream, []).append(run)
        signed = {stream: coverage.runs for stream, coverage in self._report.streams.items()}
        if stored != signed:
            self._report.findings.append(Finding(self._next - 1, "records"))


def _known(digest: bytes) -> bytes | None:
    return None if digest == layout.NO_HASH else digest
