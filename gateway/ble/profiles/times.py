"""When a wearable measured: by its own clock, as far as that can be compared with the gateway's, else by arrival."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from gateway.ble.profiles.base import Read
from gateway.clock.book import ClockBook
from gateway.clock.device import DeviceClock, Look
from gateway.clock.keeper import BOOT_ENDS_MS
from gateway.clock.system import Clock
from gateway.errors import DecodeError, LinkError
from gateway.health import decode
from gateway.health.clock import CurrentTime, DeviceTime
from gateway.model import Extra, ExtraValue, Reason, TimeSource

_CLOCKS: Final = (0x2A2B, 0x2A08)
_RESOLUTION_MS: Final = 1_000
_ON_THE_WAY_MS: Final = 1_000
"""What a live value may take from the sensor to here."""
_ANY_ZONE_MS: Final = 14 * 3_600_000
_QUARTER_MS: Final = 15 * 60_000
"""Zones are whole quarters of an hour."""
_WRONG_MS: Final = 5 * 60_000
_FUTURE_MS: Final = 2 * 60_000
_FIRST_YEAR: Final = 2010
"""A clock that shows an earlier year was never set."""


@dataclass(frozen=True, slots=True)
class When:
    """A time as a reading carries it."""

    time_ms: int
    extras: dict[Extra, ExtraValue]
    reasons: Reason = Reason.NONE


class DeviceTimes:
    """The times of one wearable, for one connection."""

    def __init__(self, address: str, clock: Clock, book: ClockBook) -> None:
        self._address = address
        self._clock = clock
        self._book = book
        self._known: DeviceClock | None = None

    def now_ms(self) -> int:
        """Gateway time."""
        return self._clock.now_ms()

    async def look(self, read: Read) -> None:
        """Read the device's clock, if it has one that can be read. Raises `LinkError` if that cannot be noted."""
        self._known = None
        for characteristic in _CLOCKS:
            before_ms = self._clock.now_ms()
            value = await read(characteristic)
            after_ms = self._clock.now_ms()
            moment = None if value is None else _shown(characteristic, value)
            if moment is not None and 0 <= after_ms - before_ms < _WRONG_MS:
                way_ms = (after_ms - before_ms) // 2
                error_ms = way_ms + _RESOLUTION_MS + self._clock.error_ms()
                self.compared(Look(as_utc_ms(moment), after_ms - way_ms, error_ms))
                return

    def compared(self, look: Look) -> None:
        """Take note of how the device's clock stands. Raises `LinkError` if that cannot be kept."""
        if look.gateway_ms < BOOT_ENDS_MS:
            self._known = DeviceClock.new(look)
            return
        try:
            self._known = self._book.seen(self._address, look)
        except OSError as error:
            raise LinkError(f"{self._address}: its clock cannot be noted: {error.strerror}") from error

    def arrived(self, received_ms: int) -> When:
        """Of a live value."""
        uncertainty_ms = _ON_THE_WAY_MS + self._clock.error_ms()
        return When(received_ms, {Extra.TIME_SOURCE: TimeSource.RECEIVED, Extra.UNCERTAINTY_MS: uncertainty_ms})

    def unknown(self, received_ms: int) -> When:
        """Of a value that was measured nobody knows when; how long before it arrived is not stated."""
        return When(received_ms, {Extra.TIME_SOURCE: TimeSource.RECEIVED}, Reason.TIME_DOUBTFUL)

    def stamped(self, moment: datetime, received_ms: int) -> When:
        """Of a value that the device has given a time, its own and local."""
        device_ms = as_utc_ms(moment)
        stamp: dict[Extra, ExtraValue] = {Extra.DEVICE_TIME: moment.isoformat()}
        if self._known is not None:
            meant = self._known.correct(device_ms, now_ms=received_ms, resolution_ms=_RESOLUTION_MS)
            if meant is not None and (meant.time_ms >= BOOT_ENDS_MS or received_ms < BOOT_ENDS_MS):
                stamp |= {
                    Extra.TIME_SOURCE: TimeSource.DEVICE_CORRECTED,
                    Extra.UNCERTAINTY_MS: meant.uncertainty_ms,
                    Extra.CORRECTION_MS: meant.time_ms - device_ms,
                }
                doubts = Reason.TIME_DOUBTFUL if meant.doubtful else Reason.NONE
                return When(meant.time_ms, stamp, doubts | note_on(meant.time_ms - device_ms, received_ms))
        doubts = Reason.NONE if self._known is None else Reason.TIME_DOUBTFUL
        ahead = received_ms >= BOOT_ENDS_MS and device_ms > received_ms + _ANY_ZONE_MS + _FUTURE_MS
        if moment.year < _FIRST_YEAR or ahead:
            unknown = self.unknown(received_ms)
            return replace(unknown, extras=stamp | unknown.extras)
        stamp |= {Extra.TIME_SOURCE: TimeSource.DEVICE, Extra.UNCERTAINTY_MS: _ANY_ZONE_MS}
        return When(device_ms, stamp, doubts)


def note_on(offset_ms: int, gateway_ms: int) -> Reason:
    """Whether a device's clock is further off than any zone explains; not to be told while the gateway's is unknown."""
    beyond_ms = abs(offset_ms - round(offset_ms / _QUARTER_MS) * _QUARTER_MS)
    wrong = abs(offset_ms) > _ANY_ZONE_MS + _WRONG_MS or beyond_ms > _WRONG_MS
    return Reason.CLOCK_WRONG if wrong and gateway_ms >= BOOT_ENDS_MS else Reason.NONE


def as_utc_ms(moment: datetime) -> int:
    """A device's local time, without a zone, as if it were UTC."""
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _shown(characteristic: int, value: bytes) -> datetime | None:
    """What the clock shows; None if it makes no sense, which no value that the device measures should pay for."""
    try:
        shown = decode(characteristic, value)
    except DecodeError:
        return None
    if isinstance(shown, CurrentTime):
        return shown.moment
    return shown.date_time.moment if isinstance(shown, DeviceTime) else None
