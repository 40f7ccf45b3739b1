"""How far a wearable's clock is off, and since when: from looks at it beside the gateway's own. Sans-IO.

A device tells local time without a zone. It is taken here as if it were UTC, so the offset from gateway time holds its
zone, daylight saving and error in one. A person who sets the clock, a dead battery and summer's end look alike.
"""

from dataclasses import dataclass, replace
from typing import Final

_DRIFT_PPM: Final = 150
"""13 s a day; more is no drift but a clock that was set."""
_FUTURE_MS: Final = 120_000
"""A time further ahead than this is wrong (clocks are coarse, and so is the way of their values)."""
_DOUBTFUL_MS: Final = 300_000
_MEMORY_MS: Final = 180 * 86_400_000
"""What fits the newer setting was not measured longer than this before the older one was last seen."""
_ANOTHER_MS: Final = 600_000
_LONG_ENOUGH: Final = 20
"""Looks tell a drift when they lie this many times further apart than their errors could turn into the steepest one."""


@dataclass(frozen=True, slots=True)
class Look:
    """Both clocks at one moment."""

    device_ms: int
    """The device's, as if it were UTC."""
    gateway_ms: int
    """Gateway time."""
    error_ms: int
    """Half-width of the interval around the offset."""

    @property
    def offset_ms(self) -> int:
        """What must be added to the device's time."""
        return self.gateway_ms - self.device_ms


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a device's time means."""

    time_ms: int
    uncertainty_ms: int
    doubtful: bool
    """It fits two settings of the clock, far apart."""


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """What is known of one device's clock."""

    first: Look
    """The first since it was last set."""
    last: Look
    previous: Look | None = None
    """The newest at this setting from before the present connection, or a good while ago."""
    before: Look | None = None
    """The last before it was set."""

    @classmethod
    def new(cls, look: Look) -> "DeviceClock":
        """One that was never seen before."""
        return cls(look, look)

    def seen(self, look: Look) -> "DeviceClock":
        """With one look more."""
        apart_ms = abs(look.gateway_ms - self.last.gateway_ms)
        if abs(look.offset_ms - self.last.offset_ms) <= look.error_ms + self.last.error_ms + _drift_ms(apart_ms):
            return replace(self, last=look, previous=self.last if apart_ms >= _ANOTHER_MS else self.previous)
        return DeviceClock(look, look, before=self.last)

    @property
    def drift_ppm(self) -> float | None:
        """By how much it gains, in millionths; None while it was not watched for long enough."""
        apart_ms = self.last.gateway_ms - self.first.gateway_ms
        if _drift_ms(apart_ms) < _LONG_ENOUGH * (self.first.error_ms + self.last.error_ms):
            return None
        return (self.first.offset_ms - self.last.offset_ms) / apart_ms * 1_000_000

    def correct(self, device_ms: int, *, now_ms: int, resolution_ms: int) -> Corrected | None:
        """What `device_ms`, told now to `resolution_ms`, means; None if it fits no setting of the clock that was seen.

        Where the clock was set between two looks, a time that fits only one setting is taken by it. One that fits both
        is taken by the newer, and the uncertainty spans both.
        """
        newer_ms, error_ms = self._by_this_setting(device_ms)
        error_ms += resolution_ms
        here = newer_ms <= now_ms + _FUTURE_MS
        if self.before is None:
            return Corrected(newer_ms, error_ms, doubtful=False) if here else None
        here = here and newer_ms >= self.before.gateway_ms - error_ms
        older_ms = device_ms + self.before.offset_ms
        older_error_ms = self.before.error_ms + resolution_ms + _drift_ms(abs(device_ms - self.before.device_ms))
        there = older_ms <= self.first.gateway_ms + older_error_ms
        if here and there and older_ms >= self.before.gateway_ms - _MEMORY_MS:
            spread_ms = abs(newer_ms - older_ms)
            return Corrected(newer_ms, spread_ms + max(error_ms, older_error_ms), doubtful=spread_ms > _DOUBTFUL_MS)
        if here:
            return Corrected(newer_ms, error_ms, doubtful=False)
        return Corrected(older_ms, older_error_ms, doubtful=False) if there else None

    def _by_this_setting(self, device_ms: int) -> tuple[int, int]:
        """Gateway time and its error, which also covers a clock that was set by so little that it may as well drift."""
        last, near = self.last, self.previous or self.first
        if near == last or device_ms >= last.device_ms:
            return device_ms + last.offset_ms, last.error_ms + _drift_ms(abs(device_ms - last.device_ms))
        changed_ms = last.offset_ms - near.offset_ms
        error_ms = near.error_ms + last.error_ms + _drift_ms(last.device_ms - min(device_ms, near.device_ms))
        if device_ms <= near.device_ms:
            return device_ms + near.offset_ms, error_ms
        share = (device_ms - near.device_ms) / (last.device_ms - near.device_ms)
        return device_ms + near.offset_ms + round(share * changed_ms), error_ms + abs(changed_ms)


def _drift_ms(apart_ms: int) -> int:
    return apart_ms * _DRIFT_PPM // 1_000_000
