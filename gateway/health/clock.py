"""Time on the air (Current Time service 0x1805): the device's clock, its zone, and what it was set by."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, Self

from gateway.errors import DecodeError
from gateway.health.date_time import DateTime, utc_offset_min
from gateway.health.measurement import DATE_TIME, DST, TIME_ZONE, U8, Fields, Measurement, Wire, on_wire

_SUNDAY: Final = 7
_FRACTIONS: Final = 256


def _decode_weekday(weekday: int) -> int:
    if weekday > _SUNDAY:
        raise DecodeError(f"there is no day of the week {weekday}")
    return weekday


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentTime(Measurement):
    """0x2A2B: what the device's clock shows."""

    FLAGS_OCTETS: ClassVar[int] = 0

    date_time: DateTime = on_wire(DATE_TIME, called="datetime")
    dow: int = on_wire(Wire("B", _decode_weekday))
    """1 Monday to 7 Sunday, 0 unknown."""
    frac256: int = on_wire(U8)
    """256ths of a second."""
    adjust: int = on_wire(U8)
    """Why it was changed last, bits: 0 by hand, 1 from another source, 2 time zone, 3 daylight saving."""

    @property
    def moment(self) -> datetime | None:
        """Local time without zone, with its fraction; None if the date is unknown."""
        moment = self.date_time.moment
        return moment and moment + timedelta(seconds=self.frac256 / _FRACTIONS)

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """A clock that shows `moment`; its zone is left out."""
        fractions = moment.microsecond * _FRACTIONS // 1_000_000
        return cls(date_time=DateTime.of(moment), dow=moment.isoweekday(), frac256=fractions, adjust=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTime(Measurement):
    """0x2A08: a date and time by itself."""

    FLAGS_OCTETS: ClassVar[int] = 0

    date_time: DateTime = on_wire(DATE_TIME, called="datetime")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTimeInformation(Measurement):
    """0x2A0F: the zone that the device believes to be in."""

    FLAGS_OCTETS: ClassVar[int] = 0

    time_zone: int = on_wire(TIME_ZONE)
    dst: int = on_wire(DST)

    def fields(self) -> Fields:
        """As declared, with the offset from UTC, null if it is unknown."""
        return Measurement.fields(self) | {"utc_offset_min": utc_offset_min(self.time_zone, self.dst)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTimeInformation(Measurement):
    """0x2A14: what the device set its clock by, and when."""

    FLAGS_OCTETS: ClassVar[int] = 0

    source: int = on_wire(U8)
    """0 unknown, 1 NTP, 2 GPS, 3 radio, 4 by hand, 5 atomic clock, 6 cellular, 7 not synchronised."""
    accuracy: int = on_wire(U8)
    """Eighths of a second; 254: more than 31.6 s, 255: unknown."""
    days: int = on_wire(U8)
    """Days since then; 255: 255 or more."""
    hours: int = on_wire(U8)
    """Hours beyond the days; 255: 255 days or more."""


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    0x2A08: DeviceTime,
    0x2A0F: LocalTimeInformation,
    0x2A14: ReferenceTimeInformation,
    0x2A2B: CurrentTime,
}
