"""Time as devices tell it: Date Time (0x2A08), Current Time service (0x1805, CTS 1.1): 0x2A2B, 0x2A0F, 0x2A14."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from gateway.errors import DecodeError
from gateway.health.date_time import DateTime, utc_offset_min
from gateway.health.measurement import DATE_TIME, DST, TIME_ZONE, U8, Fields, Measurement, Wire, on_wire

_SUNDAY: Final = 7


def _day_of_week(code: int) -> int:
    if code > _SUNDAY:
        raise DecodeError(f"there is no day {code} in a week")
    return code


DAY_OF_WEEK: Final = Wire("B", _day_of_week)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTime(Measurement):
    """Date Time (0x2A08)."""

    FLAGS_OCTETS: ClassVar[int] = 0

    datetime: DateTime = on_wire(DATE_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentTime(Measurement):
    """Current Time (0x2A2B): local time, day of the week (1 = Monday, 0 unknown), 1/256 s, why it was adjusted."""

    FLAGS_OCTETS: ClassVar[int] = 0

    local: DateTime = on_wire(DATE_TIME, called="datetime")
    day_of_week: int = on_wire(DAY_OF_WEEK, called="dow")
    fractions: int = on_wire(U8, called="frac256")
    adjusted: int = on_wire(U8, called="adjust")

    @property
    def moment(self) -> datetime | None:
        """Local time without a zone; None if the date is unknown."""
        moment = self.local.moment
        return None if moment is None else moment.replace(microsecond=self.fractions * 1_000_000 // 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTimeInformation(Measurement):
    """Local Time Information (0x2A0F): zone and daylight saving in quarters of an hour."""

    FLAGS_OCTETS: ClassVar[int] = 0

    time_zone: int = on_wire(TIME_ZONE)
    dst: int = on_wire(DST)

    def fields(self) -> Fields:
        """As declared, and what local time is ahead of UTC; null if unknown."""
        return Measurement.fields(self) | {"utc_offset_min": utc_offset_min(self.time_zone, self.dst)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTimeInformation(Measurement):
    """Reference Time Information (0x2A14): the clock's source, its accuracy in 1/8 s, and how long ago it was set."""

    FLAGS_OCTETS: ClassVar[int] = 0

    source: int = on_wire(U8)
    accuracy: int = on_wire(U8)
    """254: worse than 31.6 s; 255: unknown."""
    days: int = on_wire(U8)
    """255: that many or more."""
    hours: int = on_wire(U8)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    0x2A08: LocalTime,
    0x2A2B: CurrentTime,
    0x2A0F: LocalTimeInformation,
    0x2A14: ReferenceTimeInformation,
}
