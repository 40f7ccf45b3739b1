"""Spot-checks that an oximeter has stored: all are asked for, each is handed on once, and none counts as a live one."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from gateway.ble.collector import Backfill
from gateway.health import plx
from gateway.health.date_time import DateTime
from gateway.health.sfloat import Number
from gateway.lab.devices import PulseOximeter
from gateway.model import Extra, Reading, Reason

from .conftest import OTHER_ADDRESS, Gateway, Ward, until


@pytest.fixture
async def oximeter(ward: Ward) -> AsyncIterator[PulseOximeter]:
    """One with a store, bonded and assigned, and three spot-checks in it."""
    oximeter = PulseOximeter(ward.air.link, ledger=ward.ledger, seed=1, address=OTHER_ADDRESS, stores=True)
    await oximeter.start()
    await ward.assign("plx", wearable=oximeter)
    for _ in range(3):
        await oximeter.measure_spot()
    yield oximeter
    await oximeter.stop()


def store(oximeter: PulseOximeter, spo2: int, *, timestamp: DateTime | None = None) -> None:
    """Let it have measured that while nobody listened."""
    value = plx.SpotCheck(
        spo2_pct=Number(spo2), pr_bpm=Number(60), timestamp=timestamp, measurement_status=plx.FROM_STORAGE
    )
    assert oximeter.store
    oximeter.store.add(len(oximeter.store), value.encode())


def complete(gateway: Gateway) -> bool:
    return gateway.bluetooth.links.backfills[OTHER_ADDRESS] is Backfill.COMPLETE


def same(reading: Reading) -> tuple[object, ...]:
    """By which a receiver knows a record again."""
    extras = dict(reading.extras)
    return (extras.get(Extra.SESSION), extras.get(Extra.SEQUENCE), reading.metric, reading.mantissa)


async def linked(ward: Ward) -> Gateway:
    gateway = await ward.gateway()
    await until(lambda: complete(gateway))
    return gateway


async def again(gateway: Gateway) -> None:
    """Wait until another link has brought all."""
    gateway.bluetooth.links.backfills[OTHER_ADDRESS] = Backfill.OPEN
    await until(lambda: complete(gateway))


async def test_all_are_fetched_with_their_own_times(ward: Ward, oximeter: PulseOximeter) -> None:
    gateway = await linked(ward)
    emitted = ward.emitted(OTHER_ADDRESS)
    assert [(str(r.metric), str(r.mantissa)) for r in gateway.taken] == [
        value for line in emitted for value in line["values"].items()
    ]
    assert all(reading.reasons & Reason.STORED for reading in gateway.taken)
    assert all(dict(reading.extras)[Extra.BACKFILLED] == 1 for reading in gateway.taken)
    assert all(dict(reading.extras)[Extra.DEVICE_TIME] for reading in gateway.taken)
    assert gateway.errors == []
    assert len(oximeter.subscribed()) == 2


async def test_after_an_outage_only_what_was_missed_is_handed_on(ward: Ward, oximeter: PulseOximeter) -> None:
    gateway = await linked(ward)
    await oximeter.leave()
    store(oximeter, 91)
    await oximeter.come()
    await until(lambda: len(gateway.taken) > 6)
    assert [reading.mantissa for reading in gateway.taken[6:]] == [91, 60]


async def test_one_that_was_heard_live_is_not_taken_again_from_the_store(ward: Ward, oximeter: PulseOximeter) -> None:
    gateway = await linked(ward)
    await oximeter.measure_spot()
    await until(lambda: len(gateway.taken) == 8)
    live = gateway.taken[6:]
    assert all(Extra.BACKFILLED not in dict(reading.extras) for reading in live)
    await oximeter.drop()
    await again(gateway)
    assert len(gateway.taken) == 8
    await ward.stop(gateway)
    later = await linked(ward)
    assert {same(reading) for reading in later.taken} == {same(reading) for reading in gateway.taken}


async def test_equal_ones_without_a_time_are_each_counted_and_handed_on_once(
    ward: Ward, oximeter: PulseOximeter
) -> None:
    for _ in range(2):
        store(oximeter, 88)
    gateway = await linked(ward)
    assert gateway.errors == []
    undated = [reading for reading in gateway.taken if reading.mantissa == 88]
    assert [reading.reasons & Reason.TIME_DOUBTFUL for reading in undated] == [Reason.TIME_DOUBTFUL] * 2
    await oximeter.drop()
    await again(gateway)
    assert len(gateway.taken) == 10


async def test_what_the_outbox_cannot_keep_is_asked_for_again(ward: Ward, oximeter: PulseOximeter) -> None:
    gateway = await ward.gateway()
    gateway.refusing = True
    await until(lambda: any("asked again later" in str(error) for error in gateway.errors))
    assert gateway.taken == []
    gateway.refusing = False
    await until(lambda: complete(gateway))
    assert len(gateway.taken) == 2 * len(oximeter.store or ())


async def test_what_was_measured_on_somebody_else_is_withheld(ward: Ward, oximeter: PulseOximeter) -> None:
    gateway = await linked(ward)
    gateway.wearables.assign(OTHER_ADDRESS)
    store(oximeter, 91, timestamp=DateTime.of(ward.ledger.now() - timedelta(hours=12)))
    gateway.taken.clear()
    await until(lambda: sum(event[2] for event in gateway.events if event[0] == "withheld") == 2)
    assert 91 not in [reading.mantissa for reading in gateway.taken]


async def test_one_that_says_it_stores_nothing_is_not_asked(ward: Ward, oximeter: PulseOximeter) -> None:
    oximeter.features &= ~plx.STORAGE
    gateway = await ward.gateway()
    await until(lambda: len(oximeter.subscribed()) == 2)
    await oximeter.measure_spot()
    await until(lambda: len(gateway.taken) == 2)
    assert gateway.bluetooth.links.backfills[OTHER_ADDRESS] is Backfill.NONE
