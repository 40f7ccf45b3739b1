"""What went with a glucose measurement is joined to it, whichever comes first, and lost with neither."""

from pathlib import Path

import pytest

from gateway.ble.profiles import PROFILES
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.progress import Item
from gateway.clock.book import ClockBook
from gateway.health import gls, metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import Measurement
from gateway.health.sfloat import Number
from gateway.lab.devices import GLS_ADDRESS
from gateway.model import Extra, Frame, Reading, Reason, TimeSource
from tests.ble.conftest import Ward, system_clock, until

ADDRESS = "F0:00:00:00:07:01"
BASE = DateTime(2026, 11, 23, 10, 5)
RECEIVED_MS = 1_800_000_000_000
CONTROL_SOLUTION = 0x1A


class Meter:
    """The profile, fed with what a meter sends."""

    def __init__(self, directory: Path) -> None:
        times = DeviceTimes(ADDRESS, system_clock(), ClockBook.load(directory / "clocks.json"))
        self.profile = PROFILES["gls"](ADDRESS, times)

    def says(self, measurement: Measurement) -> list[Item]:
        characteristic = 0x2A34 if isinstance(measurement, gls.Context) else 0x2A18
        items, damaged = self.profile.items(Frame(ADDRESS, characteristic, measurement.encode(), RECEIVED_MS))
        assert damaged is None
        return items


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    return Meter(tmp_path)


def measurement(sequence: int, *, sample_type: int = 0x11) -> gls.Glucose:
    concentration = Number(104, -5)
    return gls.Glucose(sequence=sequence, base_time=BASE, concentration=concentration, sample_type=sample_type)


def context(sequence: int, *, meal: int = 2) -> gls.Context:
    return gls.Context(sequence=sequence, meal=meal, carb_id=1, carb_kg=Number(45, -3))


def readings(items: list[Item]) -> list[Reading]:
    return [reading for item in items for reading in item.readings]


def test_it_gets_time_and_session_of_its_measurement(meter: Meter) -> None:
    [measured] = readings(meter.says(measurement(7)))
    carbohydrate, meal = readings(meter.says(context(7)))
    assert (carbohydrate.metric, carbohydrate.mantissa) == (metrics.CARBOHYDRATE, 45)
    assert (meal.metric, meal.mantissa) == (metrics.MEAL, 2)
    for each in (carbohydrate, meal):
        assert each.time_ms == measured.time_ms
        assert dict(each.extras) == {
            Extra.TIME_SOURCE: TimeSource.DEVICE,
            Extra.UNCERTAINTY_MS: 14 * 3_600_000,
            Extra.SEQUENCE: 7,
            Extra.SESSION: "2026-11-23T10:05:00",
            Extra.DEVICE_TIME: "2026-11-23T10:05:00",
        }


def test_one_that_comes_first_waits_for_its_measurement(meter: Meter) -> None:
    assert meter.says(context(7)) == []
    assert meter.says(context(8)) == []
    measured, joined = meter.says(measurement(8))
    assert (measured.sequence, joined.sequence, joined.attached) == (8, None, True)
    assert {dict(each.extras)[Extra.SEQUENCE] for each in joined.readings} == {8}
    assert len(meter.profile.left()) == 1


def test_one_whose_measurement_never_comes_is_handed_on_by_itself(meter: Meter) -> None:
    meter.says(context(7))
    [alone] = meter.profile.left()
    assert meter.profile.left() == []
    for each in alone.readings:
        assert each.reasons == Reason.TIME_DOUBTFUL
        assert dict(each.extras) == {Extra.TIME_SOURCE: TimeSource.RECEIVED, Extra.SEQUENCE: 7}


def test_what_waits_is_bounded_and_nothing_of_it_is_lost(meter: Meter) -> None:
    handed_on = [item for sequence in range(3_000) for item in meter.says(context(sequence))]
    assert len(handed_on) == 3_000 - 2_048
    assert len(meter.profile.left()) == 2_048


def test_one_that_is_repeated_is_told_once_and_one_that_changed_again(meter: Meter) -> None:
    meter.says(measurement(7))
    assert len(meter.says(context(7))) == 1
    meter.says(measurement(7))
    assert meter.says(context(7)) == []
    assert len(meter.says(context(7, meal=3))) == 1


def test_what_goes_with_control_solution_is_no_patients_either(meter: Meter) -> None:
    meter.says(measurement(7, sample_type=CONTROL_SOLUTION))
    assert all(each.reasons & Reason.CONTROL_SOLUTION for each in readings(meter.says(context(7))))


async def test_a_meter_sends_both_over_the_air(ward: Ward) -> None:
    channel = ward.meter.notifying(0x2A34)
    ward.meter.add_service(0x1808, channel)
    await ward.assign("gls")
    gateway = await ward.gateway()
    await until(lambda: bool(ward.meter.subscribers(channel)))
    await ward.meter.measure()
    await ward.meter.notify(channel, context(0).encode())
    await until(lambda: metrics.MEAL in {reading.metric for reading in gateway.taken})
    glucose, *joined = gateway.taken
    assert (glucose.device, glucose.metric) == (GLS_ADDRESS, metrics.GLUCOSE_CAPILLARY)
    assert [each.time_ms for each in joined] == [glucose.time_ms] * 2
    assert gateway.errors == []
