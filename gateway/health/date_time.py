"""Date Time (0x2A08) and the time zones beside it, as other characteristics embed them (GSS)."""

from calendar import isleap
from dataclasses import dataclass
from datetime import datetime, timedelta
from struct import Struct

from gateway.errors import DecodeError

_OCTETS = Struct("<H5B")
_DAYS = (31, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""By month; a month that is unknown (0) may have 31."""
_MONTHS = 12
_FEBRUARY, _LEAP_DAY = 2, 29
_FIRST_YEAR, _LAST_YEAR = 1582, 9999
_LAST_HOUR, _LAST_MINUTE, _LAST_SECOND = 23, 59, 59

_ZONE_UNKNOWN, _ZONE_MIN, _ZONE_MAX = -128, -48, 56
_DST_UNKNOWN = 255
_DST_QUARTERS = (0, 2, 4, 8)
_QUARTER_MIN = 15


@dataclass(frozen=True, slots=True)
class DateTime:
    """A device's local time; year, month and day are 0 where the device does not know them. There is no time zone."""

    year: int
    month: int
    day: int
    hour: int = 0
    minute: int = 0
    second: int = 0

    @property
    def moment(self) -> datetime | None:
        """As a `datetime` without zone; None if any part of the date is unknown."""
        if not (self.year and self.month and self.day):
            return None
        return datetime(self.year, self.month, self.day, self.hour, self.minute, self.second)  # noqa: DTZ001 - the device tells no zone

    def later(self, minutes: int) -> "DateTime | None":
        """The time `minutes` on; None if the date is unknown or falls out of the calendar."""
        moment = self.moment
        if moment is None:
            return None
        try:
            return DateTime.of(moment + timedelta(minutes=minutes))
        except OverflowError:
            return None

    @staticmethod
    def of(moment: datetime) -> "DateTime":
        """`moment` to the second, its zone left out."""
        return DateTime(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)

    def isoformat(self) -> str:
        """ISO 8601 without zone; what is unknown prints as zeros."""
        return f"{self.year:04d}-{self.month:02d}-{self.day:02d}T{self.hour:02d}:{self.minute:02d}:{self.second:02d}"


def decode_date_time(value: bytes) -> DateTime:
    """Read seven octets. Raises `DecodeError` if a part is out of its range or the day not in the month."""
    year, month, day, hour, minute, second = _OCTETS.unpack(value)
    if year and not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise DecodeError(f"year {year} is out of range")
    if month > _MONTHS or day > _DAYS[month] or (day == _LEAP_DAY and month == _FEBRUARY and year and not isleap(year)):
        raise DecodeError(f"there is no day {day} in month {month} of year {year}")
    if hour > _LAST_HOUR or minute > _LAST_MINUTE or second > _LAST_SECOND:
        raise DecodeError(f"there is no time {hour}:{minute}:{second}")
    return DateTime(year, month, day, hour, minute, second)


def encode_date_time(date_time: DateTime) -> bytes:
    """The seven octets of `date_time`."""
    d = date_time
    return _OCTETS.pack(d.year, d.month, d.day, d.hour, d.minute, d.second)


def decode_time_zone(quarters: int) -> int:
    """Time Zone (0x2A0E): quarters of an hour from UTC, -128 unknown. Raises `DecodeError` outside its table."""
    if quarters != _ZONE_UNKNOWN and not _ZONE_MIN <= quarters <= _ZONE_MAX:
        raise DecodeError(f"time zone {quarters} is out of range")
    return quarters


def decode_dst(code: int) -> int:
    """DST Offset (0x2A0D): quarters of an hour, 255 unknown. Raises `DecodeError` outside its table."""
    if code not in _DST_QUARTERS and code != _DST_UNKNOWN:
        raise DecodeError(f"daylight saving offset {code} is not defined")
    return code


def utc_offset_min(time_zone: int, dst: int) -> int | None:
    """How far local time is ahead of UTC, minutes; None if zone or daylight saving are unknown."""
    if time_zone == _ZONE_UNKNOWN or dst == _DST_UNKNOWN:
        return None
    return _QUARTER_MIN * (time_zone + dst)
