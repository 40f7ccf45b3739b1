"""Whether the system's clock may be believed, and what time it is if not. Sans-IO.

A box without a battery-backed clock starts with any time at all, mostly one that looks right. So the clock is known
only when something vouches for it; until then times count from the boot (`docs/time.md`). Both are one number, gateway
time: milliseconds since 1970 from the year 2000 on, and since the boot below that.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from gateway.model import Event, Extra, Record, TimeSource

BOOT_ENDS_MS: Final = 946_684_800_000
"""2000-01-01: a gateway time below it counts from the boot; no boot lasts so long."""

RELEASED_MS: Final = 1_795_478_400_000
"""2026-11-24, when this version was made: no right clock shows an earlier time."""

Believe = Literal["auto", "system"]
"""`auto`: believe a clock that a time service or a battery keeps; `system`: whatever the system's clock shows."""

_VOUCHED_ERROR_MS: Final = 1_000
"""Of a clock that the configuration vouches for."""
_BATTERY_ERROR_MS: Final = 300_000
"""Of a battery-backed clock, of which nobody knows when it was set."""
_BATTERY_AGREES_MS: Final = 2_000
_DRIFT_PPM: Final = 100
"""What an oscillator may be off while nothing disciplines it."""
_STEP_MS: Final = 1_000
"""A larger change between two looks is a step of the clock and not its discipline."""
_WORTH_TELLING: Final = 4
"""By what factor an anchor must be better than the last one to be told."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the system's clocks show at one moment."""

    boot_ms: int
    """Since the boot, sleep included."""
    wall_ms: int
    """UTC milliseconds since 1970, right or wrong."""
    error_ms: int | None = None
    """The kernel's bound on it; None: no time service keeps it."""
    battery_ms: int | None = None
    """What a battery-backed clock shows, to the second; None: there is none."""


@dataclass(frozen=True, slots=True)
class _Known:
    """UTC = boot + `offset_ms`, as judged at `boot_ms`."""

    source: str
    boot_ms: int
    offset_ms: int
    error_ms: int

    def error_at(self, boot_ms: int) -> int:
        """Half-width of the interval around the time, when nothing has disciplined the clock since."""
        return self.error_ms + abs(boot_ms - self.boot_ms) * _DRIFT_PPM // 1_000_000


class Timekeeper:
    """Judges the system's clock whenever it is shown a `Sample`; between looks, time goes on from the last one.

    `boot` identifies the boot, 16 bytes. A clock that shows less than `not_before_ms` is wrong, unless a time service
    keeps it.
    """

    def __init__(self, boot: bytes, *, believe: Believe, not_before_ms: int) -> None:
        self.boot = boot
        self._believe = believe
        self._not_before_ms = not_before_ms
        self._now: _Known | None = None
        self._told: _Known | None = None

    @property
    def source(self) -> str | None:
        """What vouches for the clock: `ntp`, `battery` or `system`; None while it is unknown."""
        return self._now.source if self._now else None

    def look(self, sample: Sample) -> list[Event]:
        """Judge anew. Returns events that are due: an anchor, and before it a step if the clock was set."""
        judged = self._judge(sample)
        if judged is None:
            return []
        before, self._now = self._now, judged
        events = []
        by_ms = judged.offset_ms - before.offset_ms if before else 0
        stepped = abs(by_ms) > _STEP_MS
        if stepped:
            events.append(Event(sample.wall_ms, "clock-step", (self.boot, sample.boot_ms, by_ms)))
        told = self._told
        if told is None or stepped or judged.error_ms * _WORTH_TELLING <= told.error_at(sample.boot_ms):
            self._told = judged
            details = (self.boot, sample.boot_ms, sample.wall_ms, judged.error_ms, judged.source)
            events.append(Event(sample.wall_ms, "clock-anchor", details))
        return events

    def _judge(self, sample: Sample) -> _Known | None:
        """What to believe from now on; None: go on as before."""
        judged = self._vouched(sample)
        if judged is None or self._now is None or judged.source in ("ntp", self._now.source):
            return judged
        return judged if judged.error_ms < self._now.error_at(sample.boot_ms) else None

    def _vouched(self, sample: Sample) -> _Known | None:
        offset_ms = sample.wall_ms - sample.boot_ms
        if sample.error_ms is not None and sample.wall_ms >= BOOT_ENDS_MS:
            return _Known("ntp", sample.boot_ms, offset_ms, sample.error_ms)
        if sample.wall_ms < self._not_before_ms:
            return None
        if self._believe == "system":
            return _Known("system", sample.boot_ms, offset_ms, _VOUCHED_ERROR_MS)
        if sample.battery_ms is not None and abs(sample.battery_ms - sample.wall_ms) <= _BATTERY_AGREES_MS:
            return _Known("battery", sample.boot_ms, offset_ms, _BATTERY_ERROR_MS)
        return None

    def now_ms(self, boot_ms: int) -> int:
        """Gateway time."""
        return boot_ms + self._now.offset_ms if self._now else boot_ms

    def error_ms(self, boot_ms: int) -> int:
        """How far gateway time may be off, rounded up to a power of two; 0 while it counts from the boot."""
        if self._now is None:
            return 0
        return 1 << self._now.error_at(boot_ms).bit_length()

    def utc_ms(self, time_ms: int) -> int | None:
        """A gateway time as UTC; None if it counts from the boot and the clock is still unknown."""
        if time_ms >= BOOT_ENDS_MS:
            return time_ms
        return time_ms + self._now.offset_ms if self._now else None

    def settle(self, record: Record) -> Record:
        """A record whose time counts from the boot: with its UTC if that is known by now, else marked as it is."""
        if record.time_ms >= BOOT_ENDS_MS:
            return record
        extras = dict(record.extras)
        correction_ms = extras.pop(Extra.CORRECTION_MS, None)
        if self._now is None:
            extras |= {Extra.TIME_SOURCE: TimeSource.BOOT, Extra.BOOT: self.boot, Extra.BOOT_MS: record.time_ms}
            time_ms = record.time_ms
        else:
            time_ms = record.time_ms + self._now.offset_ms
            if isinstance(correction_ms, int):
                extras[Extra.CORRECTION_MS] = correction_ms + self._now.offset_ms
        return replace(record, time_ms=max(time_ms, 0), extras=tuple(sorted(extras.items())))
