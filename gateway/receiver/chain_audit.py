"""Goes through one chain of an archive: what is there, what is missing and why, what is not as it was signed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.envelope import layout
from gateway.envelope.keys import VerifyKey
from gateway.envelope.open import SealedPart, SignedBundle, parse_signed
from gateway.errors import EpochHashError, MalformedError, SealError, SignerError
from gateway.receiver.archive import Archive, Chain, Evicted
from gateway.receiver.coverage import Coverage, Run

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

    `evicted` is what the chain's gateway signed that it had to forget, `named` the highest bundle that it says there
    is, or -1; `on_bundle` is called after each bundle.
    """

    def __init__(
        self,
        archive: Archive,
        chain: Chain,
        registry: Mapping[bytes, tuple[str, VerifyKey]],
        *,
        evicted: list[Evicted],
        named: int,
        on_bundle: Callable[[], None],
    ) -> None:
        self._archive = archive
        self._chain = chain
        self._registry = registry
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
        for no, digest, sign1 in self._archive.signed(self._chain):
            self._miss_until(no)
            self._take(no, digest, sign1)
            self._next, self._last_hash = no + 1, digest
            report.bundles += 1
            self._on_bundle()
        self._miss_until(self._named + 1)
        if not report.findings:
            self._compare_rows()
        return report

    def _take(self, no: int, digest: bytes, sign1: bytes) -> None:
        if not sign1:
            self._report.erased += 1
            return
        try:
            bundle = parse_signed(sign1)
            if (bundle.gateway, bundle.chain, bundle.no, bundle.hash) != (*self._chain.key, no, digest):
                raise MalformedError("stored in another's place")
            owner, key = self._registry.get(bundle.signer_kid, (None, None))
            if key is None or owner != bundle.gateway:
                raise SignerError("signed by a key that is not registered for its gateway")
            bundle.verify_signature(key)
        except SealError as error:
            self._report.findings.append(Finding(no, error.cause))
            return
        self._report.verified += 1
        if self._expected_prev(bundle) not in {None, bundle.prev}:
            self._report.findings.append(Finding(no, "broken-link"))
        for each in bundle.epoch_hashes:
            if each in self._parts:
                self._parts.remove(each)
            else:
                self._report.erased += 1
        for part in bundle.parts:
            self._count(part, no)

    def _expected_prev(self, bundle: SignedBundle) -> bytes | None:
        """What must be its previous hash; None if nobody knows."""
        if bundle.no > 0:
            before = next((each for each in self._evicted if each.run.last == bundle.no - 1), None)
            return self._last_hash or (_known(before.run.hash) if before else None)
        if bundle.predecessor is None:
            return layout.NO_HASH
        chain, last = bundle.predecessor
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

    def _count(self, part: SealedPart, no: int) -> None:
        stream = self._epochs.get(part.epoch)
        if stream is None:
            return
        expected, before = self._stream_places.get(stream, (0, -1))
        if part.first > expected:
            hole = Hole(expected, part.first - 1, self._why(before, no))
            self._report.missing.setdefault(stream, []).append(hole)
        self._report.streams.setdefault(stream, Coverage()).add(Run(part.first, part.first + part.count - 1))
        self._stream_places[stream] = max(expected, part.first + part.count), no

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
