"""When a continuous monitor measured: its session's start plus minutes, held against the minutes it has counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.ble.profiles.cgm import CgmProfile
from gateway.health import cgm
from gateway.health.date_time import DateTime
from gateway.health.sfloat import Number
from gateway.model import Cursor, Extra, Frame, Reading, Reason, TimeSource
from tests.ble.test_times import ADDRESS, BOOT_MS, NOW, NOW_MS, Bench

MINUTE_MS = 60_000


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def record(bench: Bench, start: datetime | None, *, cursor: Cursor | None = None) -> Reading:
    """The one of minute 90, from a sensor that has counted 100 and says that it began at `start`, UTC."""
    bench.shows = {
        0x2AA8: cgm.Feature(features=0, sample_type=0x59).encode(),
        0x2AAA: cgm.SessionStart(start=DateTime.of(start) if start else DateTime(0, 0, 0), time_zone=0, dst=0).encode(),
        0x2AA9: cgm.Status(offset_min=100, status=0, cal_temp=0, warning=0).encode(),
    }
    sensor = CgmProfile(ADDRESS, bench.times)
    await sensor.prepare(bench.read, cursor)
    value = cgm.Records(records=(cgm.Record(glucose=Number(104), offset_min=90),)).encode()
    ([item], damaged) = sensor.items(Frame(ADDRESS, 0x2AA7, value, bench.clock.now_ms()))
    assert damaged is None
    [reading] = item.readings
    return reading


@pytest.mark.parametrize("off_min", [0, 3, -15, 15])
async def test_a_start_that_agrees_with_the_minutes_is_taken(bench: Bench, off_min: int) -> None:
    reading = await record(bench, NOW - timedelta(minutes=100 - off_min))
    assert reading.time_ms == NOW_MS - (10 - off_min) * MINUTE_MS
    extras = dict(reading.extras)
    assert extras[Extra.TIME_SOURCE] == TimeSource.SESSION
    assert extras[Extra.UNCERTAINTY_MS] == (1 + abs(off_min)) * MINUTE_MS
    assert reading.reasons == Reason.NONE


@pytest.mark.parametrize("off", [timedelta(minutes=16), timedelta(days=365), timedelta(days=-9_000)])
async def test_one_that_does_not_is_corrected_by_them_and_noted(bench: Bench, off: timedelta) -> None:
    reading = await record(bench, NOW - timedelta(minutes=100) + off)
    assert reading.time_ms == NOW_MS - 10 * MINUTE_MS
    extras = dict(reading.extras)
    assert extras[Extra.TIME_SOURCE] == TimeSource.DEVICE_CORRECTED
    assert extras[Extra.CORRECTION_MS] == -off / timedelta(milliseconds=1)
    assert reading.reasons == (Reason.NONE if off < timedelta(hours=1) and off > timedelta(0) else Reason.CLOCK_WRONG)


async def test_without_one_the_minutes_alone_tell(bench: Bench) -> None:
    reading = await record(bench, None)
    assert reading.time_ms == NOW_MS - 10 * MINUTE_MS
    assert dict(reading.extras)[Extra.TIME_SOURCE] == TimeSource.SESSION
    assert Extra.CORRECTION_MS not in dict(reading.extras)


async def test_a_gateway_without_a_clock_counts_from_its_boot_and_calls_the_session_as_the_sensor_does(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, known=False)
    start = NOW - timedelta(minutes=100)
    reading = await record(bench, start)
    assert reading.time_ms == BOOT_MS - 10 * MINUTE_MS
    assert dict(reading.extras)[Extra.SESSION] == start.replace(tzinfo=UTC).isoformat()
    undated = await record(bench, None, cursor=Cursor(ADDRESS, "~2027-03-01T10Z", 80))
    assert dict(undated.extras)[Extra.SESSION] == "~2027-03-01T10Z"


async def test_the_sensors_clock_is_followed(bench: Bench) -> None:
    await record(bench, NOW - timedelta(minutes=97))
    known = bench.book.get(ADDRESS)
    assert known
    assert known.last.offset_ms == -3 * MINUTE_MS
