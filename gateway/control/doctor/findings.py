"""What the doctor says: one finding a check."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, or may work, and a person should look at it."""
    FAIL = "fail"
    """Something that the gateway is for does not work."""
    SKIP = "skip"
    """It was not looked at, and the evidence says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check, what it came to, by which evidence, and what mends it."""

    check: str
    level: Level
    evidence: str
    fix: str = ""
    """Empty where nothing need be mended here."""


def ok(check: str, evidence: str) -> Finding:
    """Nothing to mend."""
    return Finding(check, Level.OK, evidence)


def warn(check: str, evidence: str, fix: str) -> Finding:
    """A person should look at it."""
    return Finding(check, Level.WARN, evidence, fix)


def fail(check: str, evidence: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(check, Level.FAIL, evidence, fix)


def skip(check: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(check, Level.SKIP, f"not looked at: {why}")
