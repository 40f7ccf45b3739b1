"""What the system's clocks show: Linux's boot time and wall clock, the kernel's opinion of it, the battery's clock."""

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import ClassVar, Self

from gateway.clock.keeper import BOOT_ENDS_MS, Believe, Sample, Timekeeper
from gateway.model import Event, Record

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BATTERY = Path("/sys/class/rtc/rtc0/since_epoch")
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
"""Made by systemd-timesyncd at its first answer since the boot."""
_UNSYNCHRONISED = 0x40
_UNTOLD_ERROR_MS = 1_000
_TRIES = 3
_SPARE_OCTETS = 512
"""More than any Linux has behind the fields that are read here."""


_libc = ctypes.CDLL(None)


class _Timex(ctypes.Structure):
    """The start of `struct timex` (adjtimex(2)); all zero, it asks and changes nothing."""

    _fields_: ClassVar = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * _SPARE_OCTETS),
    ]


def wall_clock_ms() -> int:
    """What the system's clock shows: UTC milliseconds since 1970, right or wrong."""
    return time.time_ns() // 1_000_000


def boot_clock_ms() -> int:
    """Milliseconds since the boot, sleep included; no one can set it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def sample() -> Sample:
    """What all clocks show now."""
    boot_ms, wall_ms = min((_both() for _ in range(_TRIES)), key=itemgetter(0))[1:]
    return Sample(boot_ms, wall_ms, _kernel_error_ms(), _battery_ms())


def _both() -> tuple[int, int, int]:
    """Boot and wall clock, and before them how far apart they may have been read."""
    before_ms, wall_ms, after_ms = boot_clock_ms(), wall_clock_ms(), boot_clock_ms()
    return after_ms - before_ms, after_ms, wall_ms


def _kernel_error_ms() -> int | None:
    """The kernel's bound on the error of its clock, while a time service disciplines it.

    A sandbox may forbid to ask (systemd's ProtectClock=); then one time service can still be seen, and no bound.
    """
    timex = _Timex()
    state: int = _libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        return _UNTOLD_ERROR_MS if _TIMESYNCD.exists() else None
    if timex.status & _UNSYNCHRONISED:
        return None
    return int(timex.maxerror) // 1_000 + 1


def _battery_ms() -> int | None:
    try:
        return int(_BATTERY.read_text(encoding="ascii")) * 1_000
    except (OSError, ValueError):
        return None


def boot_id() -> bytes:
    """16 bytes that no other boot has; fresh ones for this process where the kernel does not tell."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").replace("-", ""))
    except (OSError, ValueError):
        return os.urandom(16)


@dataclass(frozen=True, slots=True)
class SystemClocks:
    """Where a `Clock` takes time from."""

    boot: bytes = field(default_factory=boot_id)
    boot_ms: Callable[[], int] = boot_clock_ms
    sample: Callable[[], Sample] = sample


class Clock:
    """Gateway time (`clock.keeper`): what it is now, and what becomes of records that were made before it was known."""

    def __init__(self, keeper: Timekeeper, clocks: SystemClocks) -> None:
        self._keeper = keeper
        self._clocks = clocks

    @classmethod
    def start(cls, believe: Believe, *, not_before_ms: int, clocks: SystemClocks | None = None) -> Self:
        """A clock that is unknown until its first `look`."""
        clocks = clocks or SystemClocks()
        return cls(Timekeeper(clocks.boot, believe=believe, not_before_ms=not_before_ms), clocks)

    @property
    def source(self) -> str | None:
        """What vouches for it; None while it is unknown."""
        return self._keeper.source

    def look(self) -> list[Event]:
        """Judge the system's clock anew; to be done every few seconds. Returns events that are due."""
        return self._keeper.look(self._clocks.sample())

    def boot_ms(self) -> int:
        """Since the boot; for durations."""
        return self._clocks.boot_ms()

    def now_ms(self) -> int:
        """Gateway time."""
        return self._keeper.now_ms(self._clocks.boot_ms())

    def error_ms(self) -> int:
        """How far gateway time may be off."""
        return self._keeper.error_ms(self._clocks.boot_ms())

    def offset_ms(self) -> int:
        """How far the system's clock is ahead of gateway time: what was not believed; 0 while nothing is known."""
        seen = self._clocks.sample()
        return seen.wall_ms - self._keeper.now_ms(seen.boot_ms) if self.source else 0

    def utc_ms(self) -> int | None:
        """UTC, if it is known."""
        return self._keeper.utc_ms(self.now_ms())

    def age_s(self, time_ms: int | None) -> float:
        """How long ago a gateway time was; 0 for none, and where that cannot be told."""
        if time_ms is None:
            return 0.0
        utc_ms = self._keeper.utc_ms(time_ms)
        return max(0.0, (self.now_ms() - (time_ms if utc_ms is None else utc_ms)) / 1000)

    def event(self, code: str, *details: int | str | bytes | None) -> Event:
        """An event of now."""
        now_ms = self.now_ms()
        return Event(now_ms, code, details, self._keeper.boot if now_ms < BOOT_ENDS_MS else None)

    def settle(self, record: Record) -> Record:
        """A record as it may be sealed: with UTC, or marked as counting from the boot."""
        return self._keeper.settle(record)
