"""What a run of `prove` says at its end: to people, to machines, and signed, to whoever was not there."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateway import __version__
from gateway.envelope.keys import Signer
from gateway.errors import ConfigError, SignatureError
from gateway.identity.files import load_certificate, verify_key
from gateway.lab.verdict import Verdict

_WIDTH = 79
_NAME_WIDTH = 18
Word = Literal["pass", "fail", "invalid"]
STATUS: Mapping[Word, int] = {"pass": 0, "fail": 1, "invalid": 2}
"""The exit status for each verdict."""
_STYLE: Mapping[Word, str] = {"pass": "bold green", "fail": "bold red", "invalid": "bold yellow"}


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One fault that was done."""

    name: str
    does: str
    at_s: float
    took_effect: bool
    seen: str
    broken: str
    """What the system did wrong about it; empty: nothing."""
    well_again_s: float | None
    """Seconds until every wearable was linked and receipts came again; None if that did not come about in time."""

    @property
    def outcome(self) -> str:
        """In few words."""
        if self.broken:
            return f"BROKEN: {self.broken}"
        well = "" if self.well_again_s is None else f"; all well {self.well_again_s:.1f} s later"
        return f"{'took effect' if self.took_effect else 'NO EFFECT'}{well}"

    def tell(self) -> str:
        """With what was seen."""
        return f"{self.seen}. {self.outcome[0].upper()}{self.outcome[1:]}."


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    started_ms: int
    seconds: float
    wearables: int
    rate: float
    seed: int
    broker: str
    machine: str
    verdict: Verdict
    planned: int
    occurrences: tuple[Occurrence, ...]
    skipped: Mapping[str, str]
    """Faults that are impossible here, or for which there was no time, and why."""
    trouble: str
    """What did not come up again; empty: nothing."""

    @property
    def lost(self) -> int:
        """Readings that are missing without a recorded reason."""
        return self.verdict.lost_after_fsync + self.verdict.lost_from_stored_records

    @property
    def word(self) -> Word:
        """Fail if the system did wrong, whatever else; invalid if a fault was not done; else pass."""
        if not self.verdict.passed or self.trouble or any(each.broken for each in self.occurrences):
            return "fail"
        done = len(self.occurrences) == self.planned and all(each.took_effect for each in self.occurrences)
        return "pass" if done else "invalid"

    def summary(self) -> dict[str, Any]:
        """For machines, in one line."""
        verdict = self.verdict
        return {
            "verdict": self.word,
            "emitted": verdict.emitted,
            "stored": verdict.stored,
            "lost": self.lost,
            "in_air": verdict.in_air,
            "explained": verdict.explained,
            "duplicates": verdict.duplicates,
            "unverified": verdict.unverified,
            "seed": self.seed,
            "faults": [*self._counted(), *self._not_done()],
        }

    def _counted(self) -> Iterator[dict[str, Any]]:
        for name in sorted({each.name for each in self.occurrences}):
            same = [each for each in self.occurrences if each.name == name]
            took = sum(each.took_effect for each in same)
            told = next((each for each in same if not each.took_effect or each.broken), same[-1])
            yield {"name": name, "count": len(same), "effect": f"{took} of {len(same)} took effect; {told.tell()}"}

    def _not_done(self) -> Iterator[dict[str, Any]]:
        for name, why in self.skipped.items():
            yield {"name": name, "count": 0, "effect": f"skipped: {why}"}

    def document(self) -> bytes:
        """Everything, as the JSON that is signed."""
        numbers = asdict(self.verdict)
        everything = {
            "schema": 1,
            **self.summary(),
            "version": __version__,
            "started_ms": self.started_ms,
            "seconds": self.seconds,
            "wearables": self.wearables,
            "rate": self.rate,
            "broker": self.broker,
            "machine": self.machine,
            "trouble": self.trouble,
            "lost_after_fsync": numbers["lost_after_fsync"],
            "lost_from_stored_records": numbers["lost_from_stored_records"],
            "backfilled": numbers["backfilled"],
            "gateway_kills": numbers["kills"],
            "planned": self.planned,
            "occurrences": [asdict(each) for each in self.occurrences],
        }
        return json.dumps(everything, indent=1).encode() + b"\n"

    def tell(self) -> Iterator[tuple[str, str]]:
        """For people: (line of at most 79 columns, style of `rich`)."""
        yield "", ""
        yield from self._tell_faults()
        yield "", ""
        yield from self._tell_numbers()
        yield "", ""
        yield from ((line, _STYLE[self.word]) for line in textwrap.wrap(self._tell_word(), _WIDTH))

    def _tell_faults(self) -> Iterator[tuple[str, str]]:
        yield f"{'at s':>7}  {'fault':{_NAME_WIDTH}}  what was seen", "bold"
        for each in self.occurrences:
            style = "red" if each.broken else "" if each.took_effect else "yellow"
            head = f"{each.at_s:7.1f}  {each.name:{_NAME_WIDTH}}  "
            yield from ((line, style) for line in _hang(head, each.tell()))
        for name, why in self.skipped.items():
            head = f"{'-':>7}  {name:{_NAME_WIDTH}}  "
            yield from ((line, "yellow") for line in _hang(head, f"skipped: {why}"))

    def _tell_numbers(self) -> Iterator[tuple[str, str]]:
        verdict = self.verdict
        yield (
            f"{self.wearables} wearables measured {verdict.emitted} values in {self.seconds:g} s (seed {self.seed}).",
            "",
        )
        for count, text, wrong in (
            (verdict.stored, "are in the receiver's store, each verified and stored once", False),
            (verdict.explained, "are missing for a reason that a signed record names", False),
            (verdict.in_air, "were in the air: no link was up, or a kill came within the tick", False),
            (self.lost, "were lost", bool(self.lost)),
            (verdict.duplicates, "are stored twice", bool(verdict.duplicates)),
            (verdict.unverified, "values or messages could not be believed", bool(verdict.unverified)),
        ):
            yield f"{count:9}  {text}", "bold red" if wrong else ""

    def _tell_word(self) -> str:
        if self.word == "pass":
            left = f" Not done: {', '.join(self.skipped)}." if self.skipped else ""
            return f"PASS: {self.planned} faults took effect, and nothing was lost, repeated or unverified.{left}"
        if self.word == "invalid":
            idle = sum(not each.took_effect for each in self.occurrences)
            return f"INVALID: {idle} of {self.planned} faults took no effect, so this run proves nothing."
        wrong = [f"{each.name}: {each.broken}" for each in self.occurrences if each.broken]
        if self.trouble:
            wrong.append(self.trouble)
        if not self.verdict.passed:
            wrong.append("ledger and store do not agree")
        return f"FAIL: {'; '.join(wrong)}."


def _hang(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def write(report: Report, path: Path, signer: Signer, certificate: bytes) -> None:
    """Write the report, beside it its signature (`.sig`, raw) and the signer's certificate (`.crt`, PEM).

    The signature is over the file's bytes. They begin with a brace, and what else a gateway signs never does.
    """
    data = report.document()
    path.write_bytes(data)
    path.with_name(f"{path.name}.sig").write_bytes(signer.sign(data))
    path.with_name(f"{path.name}.crt").write_bytes(certificate)


def check(path: Path, certificate: Path) -> dict[str, Any]:
    """The report at `path`, if the owner of `certificate` signed it as it is.

    Raises `SignatureError` if not, `ConfigError` or `IdentityError` for files that cannot be read.
    """
    public = x509.load_pem_x509_certificate(load_certificate(certificate)).public_key()
    if not isinstance(public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise ConfigError(f"{certificate}: neither an Ed25519 nor a P-256 certificate")
    try:
        data = path.read_bytes()
        signature = path.with_name(f"{path.name}.sig").read_bytes()
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error
    try:
        verify_key(public).verify(signature, data)
    except SignatureError as error:
        raise SignatureError(f"{path}: the owner of {certificate} did not sign it as it is") from error
    report: dict[str, Any] = json.loads(data)
    return report
