"""What to read, subscribe and make of each kind of wearable: identity, time and readings of every value."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from gateway import health
from gateway.ble.inventory import Device
from gateway.ble.progress import OWN_NAME, Item, Numbering
from gateway.clock.keeper import BOOT_ENDS_MS
from gateway.clock.system import Clock
from gateway.errors import DeviceError, ProcedureError
from gateway.health import cgm, gls, plx
from gateway.health.clock import CurrentTime
from gateway.health.crc import CrcError
from gateway.health.measurement import Measurement
from gateway.health.reading import in_order
from gateway.model import Cursor, Extra, ExtraValue, Frame, Reading, TimeSource

M = TypeVar("M", bound=Measurement)

RACP = 0x2A52

_CURRENT_TIME = 0x2A2B

_MINUTE_MS = 60_000
_CLOCK_RESOLUTION_MS = 1_000
_TOLERANCE_MS = 15 * _MINUTE_MS
"""How far two estimates of a session's start may differ; some sensors tell how far they are only with each record."""
_HOUR_MS = 60 * _MINUTE_MS
_TO_THE_HOUR = "%Y-%m-%dT%HZ"
"""How we name a session that the device cannot date, so that another estimate agrees."""
_FIRST_YEAR = 1971
"""A device that says an earlier year has no clock to speak of, and times before 1970 do not travel."""
_UNKNOWN_ZONE_MS = 14 * 3_600_000
"""How far a device's local time can be from UTC."""

Read = Callable[[int], Awaitable[bytes | None]]


class Profile(Protocol):
    """One kind of wearable, for one connection."""

    @property
    def characteristics(self) -> tuple[int, ...]:
        """What to subscribe to."""

    @property
    def numbering(self) -> Numbering:
        """What its sequence numbers mean."""

    @property
    def session(self) -> str:
        """What its numbers count within now; a counter's records each tell their own."""

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Learn from the device what its values need to be understood; `cursor` is where it stood before.

        Raises `DeviceError`.
        """

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """What `frame` says, and what was wrong with the rest of it. Raises `DecodeError` if nothing can be read."""


class _Cgm:
    """Continuous glucose: time is the session's start plus minutes; the features tell whether values carry a CRC."""

    characteristics = (0x2AA7, RACP)
    numbering = Numbering.OFFSET

    def __init__(self, address: str, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._e2e_crc = False
        self._start_ms = 0
        self.session = ""

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """A sensor that was told no time, or a wrong one, counts minutes all the same: its session began so long ago.

        The session keeps the name that it had when it was first seen, however often its start is set anew.
        """
        self._e2e_crc = _told(cgm.Feature, 0x2AA8, await _required(read, 0x2AA8)).e2e_crc
        start = _told(cgm.SessionStart, 0x2AAA, await _required(read, 0x2AAA), e2e_crc=self._e2e_crc)
        status = _told(cgm.Status, 0x2AA9, await _required(read, 0x2AA9), e2e_crc=self._e2e_crc)
        told = start.moment
        counted_ms = self._clock.now_ms() - status.offset_min * _MINUTE_MS
        self._start_ms = counted_ms if told is None else int(told.timestamp() * 1000)
        believed = counted_ms < BOOT_ENDS_MS or abs(self._start_ms - counted_ms) <= _TOLERANCE_MS
        if told is not None and believed:
            name = told.isoformat()
        else:
            self._start_ms = counted_ms
            name = OWN_NAME + datetime.fromtimestamp(counted_ms / 1000, UTC).strftime(_TO_THE_HOUR)
        same = cursor and status.offset_min >= cursor.sequence and _began(cursor.session, self._start_ms)
        self.session = cursor.session if cursor and same else name

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        measurement = _told(cgm.Records, frame.characteristic, frame.value, e2e_crc=self._e2e_crc)
        damaged = CrcError(f"{frame.characteristic:04X}: a record in the middle is damaged, and what follows is lost")
        return [self._item(record) for record in measurement.records], damaged if measurement.cut_short else None

    def _item(self, record: cgm.Record) -> Item:
        time_ms = self._start_ms + record.offset_min * _MINUTE_MS
        extras: dict[Extra, ExtraValue] = {
            Extra.TIME_SOURCE: TimeSource.SESSION,
            Extra.UNCERTAINTY_MS: _MINUTE_MS,
            Extra.SEQUENCE: record.offset_min,
            Extra.SESSION: self.session,
        }
        readings = _mark(record.readings(device=self._address, time_ms=time_ms), extras)
        return Item(readings, record.offset_min, self.session, (self.session, record))


class _GlucoseMeter:
    """Single readings: each has a number and the meter's own time, corrected if the meter tells what time it has."""

    characteristics = (0x2A18, RACP)
    numbering = Numbering.COUNTER
    session = ""

    def __init__(self, address: str, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._clock_error_ms: int | None = None
        self._undated = ""
        """Stands for the base time of records without a date: without it, a reset would make them look the same."""

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Measure how far the meter's clock is from ours."""
        if cursor and cursor.session.startswith(OWN_NAME):
            self._undated = cursor.session
        else:
            self._undated = f"{OWN_NAME}{datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).date()}"
        value = await read(_CURRENT_TIME)
        now = None if value is None else _told(CurrentTime, _CURRENT_TIME, value).moment
        self._clock_error_ms = None if now is None else self._clock.now_ms() - _as_utc_ms(now)

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        measurement = _told(gls.Glucose, frame.characteristic, frame.value)
        time_ms, extras = self._when(measurement.moment, frame.received_ms)
        session = measurement.base_time.isoformat() if measurement.base_time.moment else self._undated
        extras |= {Extra.SEQUENCE: measurement.sequence, Extra.SESSION: session}
        readings = _mark(measurement.readings(device=self._address, time_ms=time_ms), extras)
        return [Item(readings, measurement.sequence, session, measurement)], None

    def _when(self, moment: datetime | None, received_ms: int) -> tuple[int, dict[Extra, ExtraValue]]:
        """Best time, and the extras that say how it came about."""
        if moment is None:
            return received_ms, {Extra.TIME_SOURCE: TimeSource.RECEIVED}
        told: dict[Extra, ExtraValue] = {Extra.DEVICE_TIME: moment.isoformat()}
        if moment.year < _FIRST_YEAR:
            return received_ms, told | {Extra.TIME_SOURCE: TimeSource.RECEIVED}
        if self._clock_error_ms is None:
            return _as_utc_ms(moment), told | {
                Extra.TIME_SOURCE: TimeSource.DEVICE,
                Extra.UNCERTAINTY_MS: _UNKNOWN_ZONE_MS,
            }
        return _as_utc_ms(moment) + self._clock_error_ms, told | {
            Extra.TIME_SOURCE: TimeSource.DEVICE_CORRECTED,
            Extra.UNCERTAINTY_MS: _CLOCK_RESOLUTION_MS,
        }


class _Oximeter:
    """Saturation and pulse: live, so the time is that of arrival; what a spot-check says of its time is kept."""

    characteristics = (0x2A5F, 0x2A5E)
    numbering = Numbering.NONE
    session = ""

    def __init__(self, address: str, _clock: Clock) -> None:
        self._address = address

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Nothing to learn."""

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        measurement = health.decode(frame.characteristic, frame.value)
        extras: dict[Extra, ExtraValue] = {Extra.TIME_SOURCE: TimeSource.RECEIVED}
        if isinstance(measurement, plx.SpotCheck) and measurement.moment is not None:
            extras[Extra.DEVICE_TIME] = measurement.moment.isoformat()
        return [Item(_mark(measurement.readings(device=self._address, time_ms=frame.received_ms), extras))], None


_PROFILES: dict[str, Callable[[str, Clock], Profile]] = {"cgm": _Cgm, "gls": _GlucoseMeter, "plx": _Oximeter}


def profile_for(device: Device, clock: Clock) -> Profile:
    """A fresh one for one connection."""
    return _PROFILES[device.profile](device.address, clock)


async def _required(read: Read, characteristic: int) -> bytes:
    value = await read(characteristic)
    if value is None:
        raise ProcedureError(f"its characteristic {characteristic:#06x} cannot be read")
    return value


def _told(kind: type[M], characteristic: int, value: bytes, *, e2e_crc: bool | None = None) -> M:
    measurement = health.decode(characteristic, value, e2e_crc=e2e_crc)
    assert isinstance(measurement, kind)  # noqa: S101 - each characteristic has one kind
    return measurement


def _began(session: str, start_ms: int) -> bool:
    """Whether the session of that name may have begun at `start_ms`, which is anything if it counts from the boot."""
    try:
        named = datetime.fromisoformat(session.removeprefix(OWN_NAME))
    except ValueError:
        return False
    if named.tzinfo is None or start_ms < BOOT_ENDS_MS:
        return start_ms < BOOT_ENDS_MS
    later_ms = start_ms - int(named.timestamp() * 1000)
    return -_TOLERANCE_MS <= later_ms <= _TOLERANCE_MS + (_HOUR_MS if session.startswith(OWN_NAME) else 0)


def _as_utc_ms(moment: datetime) -> int:
    """A device's local time, without a zone, as if it were UTC."""
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _mark(readings: tuple[Reading, ...], more: dict[Extra, ExtraValue]) -> tuple[Reading, ...]:
    """Add `more` to the extras of each."""
    own = ({Extra(key): value for key, value in reading.extras} for reading in readings)
    return tuple(
        replace(reading, extras=in_order(extras | more)) for reading, extras in zip(readings, own, strict=True)
    )
