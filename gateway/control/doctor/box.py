"""Judges the box: clock, disk, card, and the daemon itself. Sans-IO."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.control import api
from gateway.control.doctor.findings import Finding, fail, ok, warn

_GIB: Final = 1 << 30
_WORN_TENTHS: Final = 0x0B
"""JEDEC eMMC 5.1, 7.4.72 and 7.4.73: the estimated life is used up; below, tenths of it plus one."""
_NEARLY_WORN_TENTHS: Final = 9
_YEARS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The system's clock."""

    source: str | None
    """What vouches for it: ntp, battery or system; None: nothing."""
    error_ms: int
    before_certificate: bool
    """It shows a time before the TLS certificate was made."""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system of the state directory."""

    path: str
    free_bytes: int
    read_only: bool
    outbox_bytes: int
    """What the outbox takes now."""
    capacity_bytes: int
    reserve_bytes: int
    """What it leaves free."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What is known of the medium's wear."""

    device: str
    """Its name in Linux; empty if there is none to be found."""
    life_tenths: int | None
    """By the card's own word, as in JEDEC's DEVICE_LIFE_TIME_EST; None: it does not say."""
    years: float | None
    """How long a new one lasts at the daemon's present pace; None: it does not run, or nothing is written."""


def clock(facts: ClockFacts) -> Finding:
    """Whether readings get a time that can be relied on."""
    if facts.before_certificate:
        return fail(
            "clock",
            "shows a time before the TLS certificate was made",
            "set it: timedatectl set-ntp true; see docs/time.md",
        )
    if facts.source is None:
        return warn(
            "clock",
            "nothing vouches for it: times count from the boot until something does",
            "timedatectl set-ntp true, or a battery-backed clock; see docs/time.md",
        )
    vouches = {"ntp": "a time service keeps it", "battery": "a battery-backed clock agrees with it"}
    said = vouches.get(facts.source, "the configuration vouches for it")
    return ok("clock", f"{said}; at most {facts.error_ms / 1000:g} s off")


def disk(facts: DiskFacts) -> Finding:
    """Whether the outbox can grow as configured."""
    if facts.read_only:
        return fail(
            "disk", f"{facts.path} is mounted read-only", "dmesg tells why; a card that ends does this: exchange it"
        )
    wanted = max(0, facts.capacity_bytes - facts.outbox_bytes) + facts.reserve_bytes
    said = f"{facts.free_bytes / _GIB:.2f} GiB free, {wanted / _GIB:.2f} GiB wanted"
    if facts.free_bytes <= facts.reserve_bytes:
        return fail("disk", said, f"make room on the file system of {facts.path}; readings are evicted")
    if facts.free_bytes < wanted:
        return warn("disk", said, "make room, or lower outbox.capacity_bytes; an outage lasts less long than planned")
    return ok("disk", said)


def card(facts: CardFacts) -> Finding:
    """How far the medium is worn."""
    if facts.life_tenths:
        said = f"{facts.device}: {min(10 * facts.life_tenths, 100)} % of its life used, by its own word"
        if facts.life_tenths >= _WORN_TENTHS:
            return fail(
                "card", f"{facts.device}: its life is used up, by its own word", "exchange it now; see docs/sizing.md"
            )
        if facts.life_tenths >= _NEARLY_WORN_TENTHS:
            return warn("card", said, "order another one; see docs/sizing.md")
        return ok("card", said)
    if facts.years is None:
        said = f"{facts.device or 'the medium'} does not tell its wear, and no running gateway estimates it"
        return warn("card", said, "ask again when the gateway has run for a minute")
    said = f"a new one lasts {facts.years:.1f} years at the present pace"
    if facts.years < _YEARS:
        return warn("card", said, "a longer outbox.offline_tick_ms, or a card with more endurance; see docs/sizing.md")
    return ok("card", said)


def daemon(status: api.Status | None, refusal: str) -> Iterator[Finding]:
    """Whether it runs, keeps and sends; `refusal` is why it did not say."""
    if status is None:
        yield warn("gateway", refusal, "systemctl status iomt-gateway; systemctl start iomt-gateway")
        return
    yield ok("gateway", f"runs since {status.uptime_s} s, version {status.version}")
    if status.trouble:
        yield fail("storage", f"nothing can be made durable: {status.trouble}", "docs/operations.md#storagerefuses")
    if status.online:
        yield ok("uplink", f"connected; {status.bundles_waiting} bundles wait for a receipt")
    else:
        said = f"no connection to a broker; {status.bundles_waiting} bundles wait"
        yield fail("uplink", said, "docs/operations.md#gatewayoffline")
    if status.bundles_parked:
        said = f"{status.bundles_parked} bundles are refused for good"
        yield fail("parked", said, "docs/operations.md#bundlesparked")
