"""Which packages have known vulnerabilities, by a given snapshot of the OSV database (ossf.github.io/osv-schema).

A snapshot is OSV's own export, the zip archive of one JSON file an advisory, or a directory of such files. Nothing is
fetched: without a snapshot nothing was audited, which is not the same as clean.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ValidationError

from gateway.errors import ConfigError

_ECOSYSTEM: Final = "PyPI"
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


class _Event(BaseModel):
    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class _Range(BaseModel):
    type: str
    events: list[_Event]


class _Package(BaseModel):
    ecosystem: str
    name: str


class _Affected(BaseModel):
    package: _Package | None = None
    ranges: list[_Range] = []
    versions: list[str] = []


class Advisory(BaseModel):
    """What of an OSV entry says whom it concerns; the rest is not read."""

    id: str
    modified: datetime
    withdrawn: datetime | None = None
    summary: str = ""
    aliases: list[str] = []
    affected: list[_Affected] = []


@dataclass(frozen=True, slots=True)
class Vulnerable:
    """A package that an advisory concerns."""

    name: str
    version: str
    advisory: str
    """Its id, such as GHSA-... or PYSEC-..."""
    summary: str
    fixed: str | None
    """The lowest later version that is said to be mended; None: there is none."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit came to."""

    advisories: int
    """How many the snapshot has."""
    newest: datetime
    """When the last of them was written: how old the snapshot is."""
    found: tuple[Vulnerable, ...]


def installed() -> dict[str, str]:
    """Version by canonical name of every package that this process could import."""
    return {canonicalize_name(each.name): each.version for each in metadata.distributions()}


def pinned(lock: str) -> dict[str, str]:
    """Version by canonical name of every package in the text of a hash-locked requirements file."""
    return {canonicalize_name(name): version for name, version in _PINNED.findall(lock)}


def audit(packages: Mapping[str, str], snapshot: Path) -> Audited:
    """Hold packages (version by canonical name) against a snapshot.

    Raises `ConfigError` if it cannot be read or has no advisory of Python packages, as that audits nothing.
    """
    count, newest, found = 0, datetime.min.replace(tzinfo=UTC), set[Vulnerable]()
    for advisory in _read(snapshot):
        count += any(map(_concerns_us, advisory.affected))
        newest = max(newest, advisory.modified)
        found.update(concerned(packages, advisory))
    if not count:
        raise ConfigError(f"{snapshot}: has no advisory of Python packages; give OSV's export of {_ECOSYSTEM}, all.zip")
    return Audited(count, newest, tuple(sorted(found, key=lambda each: (each.name, each.advisory))))


def concerned(packages: Mapping[str, str], advisory: Advisory) -> Iterator[Vulnerable]:
    """Yield each of the packages that an advisory concerns."""
    for affected in [] if advisory.withdrawn else advisory.affected:
        if affected.package is None or not _concerns_us(affected):
            continue
        name = canonicalize_name(affected.package.name)
        version = packages.get(name)
        if version is not None and _is_affected(version, affected):
            yield Vulnerable(name, version, advisory.id, advisory.summary, _fixed_in(version, affected))


def _concerns_us(affected: _Affected) -> bool:
    return affected.package is not None and affected.package.ecosystem.partition(":")[0] == _ECOSYSTEM


def _is_affected(version: str, affected: _Affected) -> bool:
    """OSV's own evaluation. What cannot be compared concerns us: it cannot be ruled out."""
    if version in affected.versions:
        return True
    try:
        return any(_in_range(Version(version), each.events) for each in affected.ranges if each.type == "ECOSYSTEM")
    except InvalidVersion:
        return True


def _in_range(version: Version, events: Iterable[_Event]) -> bool:
    return any(
        start <= version and (end is None or (version <= end if included else version < end))
        for start, end, included in _spans(events)
    )


def _spans(events: Iterable[_Event]) -> Iterator[tuple[Version, Version | None, bool]]:
    """Yield each span of affected versions: its first, its end (None: open), and whether the end is affected too."""
    start: Version | None = None
    for at, event in sorted(((_version(each), each) for each in events), key=lambda pair: pair[0]):
        if event.introduced is not None:
            start = at if start is None else start
        elif start is not None:
            yield start, at, event.last_affected is not None
            start = None
    if start is not None:
        yield start, None, False


def _version(event: _Event) -> Version:
    return Version(event.introduced or event.fixed or event.last_affected or "0")


def _fixed_in(version: str, affected: _Affected) -> str | None:
    try:
        fixes = [Version(event.fixed) for each in affected.ranges for event in each.events if event.fixed]
        later = [each for each in fixes if each > Version(version)]
    except InvalidVersion:
        return None
    return str(min(later)) if later else None


def _read(snapshot: Path) -> Iterator[Advisory]:
    try:
        if snapshot.is_dir():
            for path in sorted(snapshot.glob("*.json")):
                yield Advisory.model_validate_json(path.read_bytes())
            return
        with zipfile.ZipFile(snapshot) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    yield Advisory.model_validate_json(archive.read(name))
    except OSError as error:
        raise ConfigError(f"{snapshot}: cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, ValidationError) as error:
        raise ConfigError(f"{snapshot}: is no snapshot of OSV's database: {str(error).splitlines()[0]}") from error
