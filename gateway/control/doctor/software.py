"""Says which of the packages that this process could import have known vulnerabilities."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.control.doctor.findings import Finding, fail, ok, skip, warn
from gateway.observe import advisories
from gateway.observe.advisories import Audited

_STALE_DAYS: Final = 30


def examine_software(snapshot: Path | None, now: dt.datetime) -> Iterator[Finding]:
    """By a snapshot of OSV's database; without one nothing is audited. Raises `ConfigError` if it cannot be read."""
    packages = advisories.installed()
    audited = None if snapshot is None else advisories.audit(packages, snapshot)
    yield from versions(audited, len(packages), now)


def versions(audited: Audited | None, packages: int, now: dt.datetime) -> Iterator[Finding]:
    """Whether the software has known vulnerabilities."""
    if audited is None:
        yield skip("vulnerabilities", f"no advisories for {packages} packages; give OSV's export: --advisories all.zip")
        return
    for each in audited.found:
        mended = f"upgrade {each.name} to {each.fixed}" if each.fixed else f"nothing mends {each.name} yet; read it"
        yield fail("vulnerabilities", f"{each.name} {each.version}: {each.advisory} {each.summary}".rstrip(), mended)
    days = (now - audited.newest) / dt.timedelta(days=1)
    said = f"{packages} packages, {audited.advisories} advisories, the newest {days:.0f} days old"
    if days > _STALE_DAYS:
        yield warn("vulnerabilities", said, "the snapshot is old; give a newer one")
    elif not audited.found:
        yield ok("vulnerabilities", f"none is known: {said}")
