"""Wearables that are simply listened to: a health profile that says so can be collected without a line of code more."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway import health
from gateway.ble.healing import LinkState
from gateway.ble.profiles import PROFILES
from gateway.errors import DecodeError
from gateway.health import bls, hrs, hts, plx
from gateway.health.clock import CurrentTime
from gateway.health.date_time import DateTime
from gateway.health.metrics import (
    BLOOD_PRESSURE_PULSE,
    DIASTOLIC,
    HEART_RATE,
    SYSTOLIC,
    TEMPERATURE,
    TEMPERATURE_EAR,
    TEMPERATURE_ORAL,
)
from gateway.health.sfloat import Number
from gateway.lab.peripheral import Peripheral
from gateway.model import Extra, Frame, Reason, TimeSource
from tests.ble.conftest import OTHER_ADDRESS as ADDRESS
from tests.ble.conftest import STREAMS, Ward, system_clock, until
from tests.ble.test_times import Bench

BEHIND = timedelta(days=9_000)


@pytest.fixture
async def wearable(ward: Ward) -> AsyncIterator[Peripheral]:
    wearable = Peripheral(ward.air.link, name="Virtual", address=ADDRESS, service=0x1810, ledger=ward.ledger)
    yield wearable
    await wearable.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_each_of_these_profiles_can_be_collected() -> None:
    assert set(health.COLLECTED) == {"plx", "hrs", "hts", "bls", "wss", "bcs"}
    assert set(PROFILES) == {*health.COLLECTED, "cgm", "gls"} == set(health.SERVICES.values())
    for characteristics in health.COLLECTED.values():
        assert set(characteristics) <= set(health.CHARACTERISTICS)


async def test_a_cuff_that_stored_its_measurement_and_lives_in_2002(ward: Ward, wearable: Peripheral) -> None:
    channel = wearable.indicating(0x2A35)
    wearable.add_service(0x1810, channel)
    wearable.add_service(0x1805, wearable.readable(0x2A2B, lambda: CurrentTime.of(datetime.now(UTC) - BEHIND).encode()))
    await wearable.start()
    await ward.assign("bls", wearable=wearable)
    gateway = await ward.gateway()
    await until(lambda: bool(wearable.subscribers(channel)))
    stream = gateway.wearables.assign(ADDRESS, user=2, since_ms=0)
    await until(lambda: gateway.codes().count("link-up") == 2 and bool(wearable.subscribers(channel)))
    measured = datetime.now(UTC) - timedelta(hours=3)
    stored = bls.BloodPressure(
        systolic=Number(124),
        diastolic=Number(79),
        map=Number(94),
        timestamp=DateTime.of(measured - BEHIND),
        pulse_bpm=Number(61),
        user_id=2,
    )
    [connection] = wearable.subscribers(channel)
    assert await wearable.indicate(connection, channel, stored.encode())
    await until(lambda: len(gateway.taken) == 4)
    assert gateway.streams == {stream}
    assert {SYSTOLIC, DIASTOLIC, BLOOD_PRESSURE_PULSE} < {reading.metric for reading in gateway.taken}
    for reading in gateway.taken:
        extras = dict(reading.extras)
        uncertainty_ms = extras[Extra.UNCERTAINTY_MS]
        assert isinstance(uncertainty_ms, int)
        assert abs(reading.time_ms - measured.timestamp() * 1000) <= uncertainty_ms < 60_000
        assert extras[Extra.TIME_SOURCE] == TimeSource.DEVICE_CORRECTED
        assert extras[Extra.DEVICE_TIME] == DateTime.of(measured - BEHIND).isoformat()
        assert extras[Extra.USER] == 2


async def test_what_a_shared_cuff_says_of_a_user_whom_nobody_assigned_is_told_and_goes_nowhere(
    ward: Ward, wearable: Peripheral
) -> None:
    channel = wearable.indicating(0x2A35)
    wearable.add_service(0x1810, channel)
    await wearable.start()
    await ward.assign("bls", wearable=wearable)
    gateway = await ward.gateway()
    await until(lambda: bool(wearable.subscribers(channel)))
    [connection] = wearable.subscribers(channel)
    for user in (1, None):
        pressure = bls.BloodPressure(systolic=Number(124), diastolic=Number(79), map=Number(94), user_id=user)
        assert await wearable.indicate(connection, channel, pressure.encode())
    await until(lambda: len(gateway.taken) == 3)
    assert all(Extra.USER not in dict(reading.extras) for reading in gateway.taken)
    assert ("withheld", ADDRESS, 3, 1) in gateway.events
    assert gateway.inventory.get(ADDRESS).unmapped_users == (1,)
    gateway.wearables.assign(ADDRESS, user=1)
    assert gateway.inventory.get(ADDRESS).unmapped_users == ()
    assert gateway.inventory.get(ADDRESS).stream == STREAMS[ADDRESS]
    told = len(gateway.events)
    gateway.wearables.unassign_all(ADDRESS)
    assert gateway.events[told:] == [("unassigned", ADDRESS, None), ("unassigned", ADDRESS, 1)]
    assert gateway.bluetooth.links.states[ADDRESS] is LinkState.UNASSIGNED


async def test_a_strap_tells_what_is_now(ward: Ward, wearable: Peripheral) -> None:
    channel = wearable.notifying(0x2A37)
    wearable.add_service(0x180D, channel)
    await wearable.start()
    await ward.assign("hrs", wearable=wearable)
    gateway = await ward.gateway()
    await until(lambda: bool(wearable.subscribers(channel)))
    await wearable.notify(channel, hrs.HeartRate(hr_bpm=61).encode())
    await until(lambda: bool(gateway.taken))
    [reading] = gateway.taken
    assert (reading.metric, reading.mantissa) == (HEART_RATE, 61)
    assert dict(reading.extras)[Extra.TIME_SOURCE] == TimeSource.RECEIVED
    assert abs(reading.time_ms - system_clock().now_ms()) < 60_000


@pytest.mark.parametrize(("status", "source"), [(0, TimeSource.RECEIVED), (1 << 9, TimeSource.DEVICE)])
def test_a_spot_check_is_timed_by_its_stamp_only_if_it_comes_from_the_store(
    bench: Bench, status: int, source: TimeSource
) -> None:
    profile = PROFILES["plx"](ADDRESS, bench.times)
    stamp = DateTime(2027, 2, 1, 8)
    check = plx.SpotCheck(spo2_pct=Number(97), pr_bpm=Number(60), timestamp=stamp, measurement_status=status)
    ([item], _) = profile.items(Frame(ADDRESS, 0x2A5E, check.encode(), bench.now_ms))
    for reading in item.readings:
        assert dict(reading.extras)[Extra.TIME_SOURCE] == source
        assert dict(reading.extras)[Extra.DEVICE_TIME] == stamp.isoformat()


@pytest.mark.parametrize("clock_not_set", [False, True])
def test_nobody_knows_when_a_stored_spot_check_was_without_a_clock(bench: Bench, *, clock_not_set: bool) -> None:
    profile = PROFILES["plx"](ADDRESS, bench.times)
    check = plx.SpotCheck(
        spo2_pct=Number(97),
        pr_bpm=Number(60),
        timestamp=DateTime(2027, 2, 1, 8) if clock_not_set else None,
        measurement_status=1 << 9,
        clock_not_set=clock_not_set,
    )
    ([item], _) = profile.items(Frame(ADDRESS, 0x2A5E, check.encode(), bench.now_ms))
    for reading in item.readings:
        assert reading.reasons & Reason.TIME_DOUBTFUL
        assert Extra.UNCERTAINTY_MS not in dict(reading.extras)


@pytest.mark.parametrize(
    ("once", "each", "metric"),
    [(None, None, TEMPERATURE), (6, None, TEMPERATURE_ORAL), (6, 3, TEMPERATURE_EAR), (None, 3, TEMPERATURE_EAR)],
)
async def test_a_thermometer_says_where_it_measures_once_or_each_time(
    bench: Bench, once: int | None, each: int | None, metric: int
) -> None:
    bench.shows = {} if once is None else {0x2A1D: bytes((once,))}
    profile = PROFILES["hts"](ADDRESS, bench.times)
    await profile.prepare(bench.read, None)
    value = hts.Temperature(temperature=Number(3660, -2), type=each).encode()
    ([item], _) = profile.items(Frame(ADDRESS, 0x2A1C, value, bench.now_ms))
    [reading] = item.readings
    assert (reading.metric, reading.mantissa, reading.exponent) == (metric, 3660, -2)


async def test_a_thermometer_that_says_wrongly_where_it_measures_is_read_all_the_same(
    bench: Bench,
) -> None:
    bench.shows = {0x2A1D: bytes(2)}
    profile = PROFILES["hts"](ADDRESS, bench.times)
    await profile.prepare(bench.read, None)
    value = Frame(ADDRESS, 0x2A1C, hts.Temperature(temperature=Number(3660, -2)).encode(), bench.now_ms)
    ([item], wrong), (_, later) = profile.items(value), profile.items(value)
    assert [reading.mantissa for reading in item.readings] == [3660]
    assert isinstance(wrong, DecodeError)
    assert later is None
