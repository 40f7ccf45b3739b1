"""Judges what the gateway is trusted for and what it trusts: certificates, lists, and files. Sans-IO."""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.control.doctor.findings import Finding, fail, ok, warn


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate."""

    check: str
    path: str
    until: dt.datetime | None
    """None: it cannot be read, or must not be used."""
    error: str
    warn_days: float
    """Below so many days a person should look at it."""
    fix: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is wrong with one file or directory."""

    path: str
    wrong: str
    """Empty: nothing is."""
    fix: str


def certificate(facts: CertificateFacts, now: dt.datetime) -> Finding:
    """Whether a certificate is good, and for how long."""
    if facts.until is None:
        return fail(facts.check, facts.error, facts.fix)
    days = (facts.until - now) / dt.timedelta(days=1)
    if days <= 0:
        return fail(facts.check, f"{facts.path}: ended {-days:.1f} days ago", facts.fix)
    if days < facts.warn_days:
        return warn(facts.check, f"{facts.path}: ends in {days:.1f} days", facts.fix)
    return ok(facts.check, f"good for {days:.0f} days")


def revocation(path: str, until: dt.datetime | None, now: dt.datetime) -> Finding:
    """Whether revoked servers would be known."""
    fix = "the next renewal brings it; with a CA that is not ours put one there"
    if until is None:
        return warn("revocation list", f"{path}: there is none: a server that was revoked would be believed", fix)
    days = (until - now) / dt.timedelta(days=1)
    if days <= 0:
        return warn("revocation list", f"{path}: is {-days:.1f} days old beyond its end; it still counts", fix)
    return ok("revocation list", f"the next one is due in {days:.0f} days")


def key_list(serial: int, recipients: int, until: dt.datetime, now: dt.datetime) -> Finding:
    """To whom readings are sealed. One in use never ends (docs/format.md), but a new box would refuse it."""
    said = f"number {serial}, sealed to {recipients} keys"
    if until <= now:
        return warn("key list", f"{said}, ended {until:%Y-%m-%d}", "on the site: iomt-receiver keys rotate DIR")
    return ok("key list", f"{said}, until {until:%Y-%m-%d}")


def files(facts: Iterable[FileFacts]) -> Iterator[Finding]:
    """Whether secrets are where and as they should be."""
    wrong = [each for each in facts if each.wrong]
    if not wrong:
        yield ok("permissions", "keys and state are the service's alone; no key is left over")
    for each in wrong:
        yield fail("permissions", f"{each.path}: {each.wrong}", each.fix)
