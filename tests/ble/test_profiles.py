"""Records keep their identity when a device cannot date them, sets its clock anew, or starts over."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.ble.profiles import PROFILES, Profile
from gateway.ble.profiles.times import DeviceTimes
from gateway.clock.book import ClockBook
from gateway.health import cgm, gls
from gateway.health.date_time import DateTime
from gateway.health.sfloat import Number
from gateway.model import Cursor, Extra, Frame
from tests.ble.conftest import system_clock

ADDRESS = "F0:00:00:00:07:01"
ZONE_UNKNOWN, DST_UNKNOWN = -128, 255


@pytest.fixture
def book(tmp_path: Path) -> ClockBook:
    return ClockBook.load(tmp_path / "clocks.json")


def profile(kind: str, book: ClockBook) -> Profile:
    return PROFILES[kind](ADDRESS, DeviceTimes(ADDRESS, system_clock(), book))


def sensor(start: datetime | None, *, offset_min: int) -> dict[int, bytes]:
    """What a CGM answers: where its session began, in UTC, and how far it is."""
    if start is None:
        told = cgm.SessionStart(start=DateTime(0, 0, 0), time_zone=ZONE_UNKNOWN, dst=DST_UNKNOWN)
    else:
        told = cgm.SessionStart(start=DateTime.of(start), time_zone=0, dst=0)
    return {
        0x2AA8: cgm.Feature(features=0, sample_type=0x59).encode(),
        0x2AAA: told.encode(),
        0x2AA9: cgm.Status(offset_min=offset_min, status=0, cal_temp=0, warning=0).encode(),
    }


async def session(book: ClockBook, answers: dict[int, bytes], cursor: Cursor | None = None) -> str:
    """What the session is called."""
    sensor = profile("cgm", book)

    async def read(characteristic: int) -> bytes | None:
        return answers.get(characteristic)

    await sensor.prepare(read, cursor)
    return sensor.session


def ago(minutes: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minutes)


def at(name: str, sequence: int) -> Cursor:
    return Cursor(ADDRESS, name, sequence)


async def test_a_session_is_called_as_the_sensor_dates_it(book: ClockBook) -> None:
    start = ago(200)
    assert await session(book, sensor(start, offset_min=200)) == start.isoformat()


@pytest.mark.parametrize("start", [None, datetime(2000, 1, 1, tzinfo=UTC)])
async def test_a_sensor_that_was_told_no_time_or_a_wrong_one_gets_a_name_that_lasts(
    book: ClockBook, start: datetime | None
) -> None:
    name = await session(book, sensor(start, offset_min=200))
    assert name == "~" + ago(200).strftime("%Y-%m-%dT%HZ")
    assert await session(book, sensor(start, offset_min=201), at(name, 190)) == name


async def test_a_start_that_is_set_anew_is_still_the_same_session(book: ClockBook) -> None:
    name = ago(500).isoformat()
    moved = [ago(501), ago(499) + timedelta(days=365), datetime(2000, 1, 1, tzinfo=UTC), None]
    for start in moved:
        assert await session(book, sensor(start, offset_min=500), at(name, 480)) == name


async def test_a_session_first_seen_without_a_date_keeps_its_name_when_it_gets_one(book: ClockBook) -> None:
    name = await session(book, sensor(None, offset_min=500))
    assert await session(book, sensor(ago(500), offset_min=500), at(name, 480)) == name


@pytest.mark.parametrize("start", [None, ago(30)])
async def test_a_new_session_has_another_name(book: ClockBook, start: datetime | None) -> None:
    old = await session(book, sensor(start and ago(5000), offset_min=5000))
    assert await session(book, sensor(start, offset_min=30), at(old, 4990)) != old
    assert await session(book, sensor(start, offset_min=30), at(old, 20)) != old


async def meter_session(book: ClockBook, base_time: DateTime, cursor: Cursor | None) -> object:
    """What the number of a meter's record counts within."""
    meter = profile("gls", book)

    async def read(_characteristic: int) -> bytes | None:
        return None

    await meter.prepare(read, cursor)
    record = gls.Glucose(sequence=3, base_time=base_time, concentration=Number(104, -5), sample_type=0x11)
    ([item], damaged) = meter.items(Frame(ADDRESS, 0x2A18, record.encode(), 0))
    assert damaged is None
    (reading,) = item.readings
    assert dict(reading.extras)[Extra.SESSION] == item.session
    return item.session


async def test_a_meters_record_is_called_by_its_base_time(book: ClockBook) -> None:
    assert await meter_session(book, DateTime(2026, 11, 23, 10), None) == "2026-11-23T10:00:00"


@pytest.mark.parametrize("unknown", [DateTime(0, 0, 0), DateTime(2026, 0, 0), DateTime(2026, 11, 0)])
async def test_records_without_a_date_are_told_apart_by_when_they_were_first_seen(
    book: ClockBook, unknown: DateTime
) -> None:
    today = "~" + datetime.now(UTC).date().isoformat()
    assert await meter_session(book, unknown, None) in {today, "~" + datetime.now(UTC).date().isoformat()}
    assert await meter_session(book, unknown, at("~2025-01-01", 9)) == "~2025-01-01"
    assert await meter_session(book, unknown, at("2025-01-01T10:00:00", 9)) != "2025-01-01T10:00:00"
