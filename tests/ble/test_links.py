"""Links to real GATT servers: paired once, authenticated always, every stored record fetched, nothing silently lost."""

import asyncio

import pytest
from bumble.device import Connection, Device

from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS
from gateway.model import Cursor, Extra, TimeSource

from .conftest import STREAMS, Ward, until

BUSY = bytes([6, 0, 1, 10])


def pairings(device: Device) -> list[str]:
    """Grows with each pairing that `device` takes part in."""
    seen: list[str] = []
    device.on(Device.EVENT_CONNECTION, lambda c: c.on(Connection.EVENT_PAIRING, lambda _keys: seen.append("paired")))
    return seen


async def test_comes_back_on_the_bond_and_never_pairs_by_itself(ward: Ward) -> None:
    await ward.assign("cgm")
    paired = pairings(ward.cgm.device)
    for _ in range(2):
        gateway = await ward.gateway()
        await until(lambda gateway=gateway: ("link-up", CGM_ADDRESS) in gateway.events)
        assert gateway.errors == []
        await ward.stop(gateway)
    assert paired == []


async def test_fetches_all_stored_records_once_and_says_where_they_come_from(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    emitted = ward.emitted(CGM_ADDRESS)
    assert gateway.sequences(CGM_ADDRESS) == [line["sequence"] for line in emitted]
    assert gateway.streams == {STREAMS[CGM_ADDRESS]}
    for reading, line in zip(gateway.taken, emitted, strict=True):
        extras = dict(reading.extras)
        assert (extras[Extra.BACKFILLED], extras[Extra.SESSION]) == (1, line["session"])
        assert extras[Extra.TIME_SOURCE] == TimeSource.SESSION
        assert abs(reading.time_ms - line["sent_ms"]) < 1000
        assert {str(reading.metric): str(reading.mantissa)} == line["values"]
    assert gateway.cursors[CGM_ADDRESS] == Cursor(CGM_ADDRESS, ward.cgm.session, emitted[-1]["sequence"])


async def test_a_live_record_moves_the_cursor(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    await ward.cgm.measure(31)
    await until(lambda: gateway.cursors[CGM_ADDRESS].sequence == 31)
    assert Extra.BACKFILLED not in dict(gateway.taken[-1].extras)


async def test_after_an_outage_exactly_what_was_missed_is_fetched(ward: Ward) -> None:
    await ward.assign("cgm", "gls")
    for _ in range(3):
        await ward.meter.measure()
    first = await ward.gateway()
    await until(lambda: {CGM_ADDRESS, GLS_ADDRESS} <= first.cursors.keys())
    await ward.stop(first)
    for offset in range(31, 41):
        await ward.cgm.measure(offset)
    for _ in range(5):
        await ward.meter.measure()
    second = await ward.gateway()
    await until(lambda: second.cursors[CGM_ADDRESS].sequence == 40 and second.cursors[GLS_ADDRESS].sequence == 7)
    assert second.sequences(CGM_ADDRESS) == list(range(30, 41))  # others could share the cursor's minute
    assert second.sequences(GLS_ADDRESS) == list(range(3, 8))


async def test_a_link_lost_and_found_by_the_same_gateway_repeats_nothing(ward: Ward) -> None:
    await ward.assign("gls")
    await ward.meter.measure()
    gateway = await ward.gateway()
    await until(lambda: GLS_ADDRESS in gateway.cursors)
    await ward.meter.drop()
    await ward.meter.measure()
    await until(lambda: gateway.cursors[GLS_ADDRESS].sequence == 1)
    await ward.meter.measure()
    await until(lambda: gateway.cursors[GLS_ADDRESS].sequence == 2)
    assert gateway.sequences(GLS_ADDRESS) == [0, 1, 2]
    assert gateway.events.count(("link-down", GLS_ADDRESS)) == 1


async def test_what_the_outbox_cannot_keep_is_asked_for_again_from_the_durable_cursor(ward: Ward) -> None:
    await ward.assign("gls")
    await ward.meter.measure()
    gateway = await ward.gateway()
    await until(lambda: GLS_ADDRESS in gateway.cursors)
    gateway.refusing = True
    for _ in range(3):
        await ward.meter.measure()
    await until(lambda: any("asked again later" in str(error) for error in gateway.errors))
    assert gateway.cursors[GLS_ADDRESS].sequence == 0
    gateway.refusing = False
    await until(lambda: gateway.cursors[GLS_ADDRESS].sequence == 3)
    assert sorted(set(gateway.sequences(GLS_ADDRESS))) == [0, 1, 2, 3]


async def test_records_made_during_the_transfer_come_once(ward: Ward) -> None:
    await ward.assign("cgm")
    serve = ward.cgm.store.answer

    def grow(request: bytes) -> tuple:
        if request[0] == 1:
            tasks.append(asyncio.ensure_future(ward.cgm.measure(31)))
        return serve(request)

    tasks: list[asyncio.Future] = []
    ward.cgm.store.answer = grow
    gateway = await ward.gateway()
    await until(lambda: gateway.cursors.get(CGM_ADDRESS, Cursor("", "", 0)).sequence == 31)
    assert sorted(gateway.sequences(CGM_ADDRESS)) == list(range(32))


async def test_a_transfer_that_breaks_off_is_made_up_for(ward: Ward) -> None:
    await ward.assign("cgm")
    serve = ward.cgm.store.serve
    drops: list[asyncio.Future] = []

    def break_off(request: bytes) -> tuple:
        records, response = serve(request)
        if request[0] == 1 and not drops:
            drops.append(asyncio.ensure_future(ward.cgm.drop()))
            return records[:10], None
        return records, response

    ward.cgm.store.answer = break_off
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    assert set(gateway.sequences(CGM_ADDRESS)) == set(range(31))
    assert "link" in gateway.causes()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("busy", lambda _records: ((), BUSY)),
        ("says success and sends too little", lambda records: (records[:3], bytes([6, 0, 1, 1]))),
        ("never ends", lambda records: (records[:3], None)),
    ],
)
async def test_a_transfer_without_success_moves_no_cursor_and_is_tried_again(ward: Ward, name: str, answer) -> None:  # noqa: ANN001
    await ward.assign("cgm")
    serve = ward.cgm.store.serve
    ward.cgm.store.answer = lambda request: serve(request) if request[0] != 1 else answer(serve(request)[0])
    gateway = await ward.gateway(racp_timeout_s=0.2)
    await until(lambda: "procedure" in gateway.causes())
    await ward.cgm.measure(31)
    await until(lambda: 31 in gateway.sequences(CGM_ADDRESS))
    assert CGM_ADDRESS not in gateway.cursors, name
    ward.cgm.store.answer = serve
    await ward.cgm.drop()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    assert set(gateway.sequences(CGM_ADDRESS)) == set(range(32))


async def test_a_meter_that_was_reset_is_read_from_its_beginning(ward: Ward) -> None:
    await ward.assign("gls")
    for _ in range(5):
        await ward.meter.measure()
    first = await ward.gateway()
    await until(lambda: GLS_ADDRESS in first.cursors)
    await ward.stop(first)
    ward.meter.reset()
    await asyncio.sleep(1.0)  # base times have a resolution of a second
    for _ in range(7):
        await ward.meter.measure()
    second = await ward.gateway()
    await until(lambda: second.cursors[GLS_ADDRESS].sequence == 6)
    assert sorted(second.sequences(GLS_ADDRESS)) == list(range(7))


async def test_a_session_that_starts_over_on_a_live_link_gets_its_own_times(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    old = ward.cgm.session
    ward.cgm.restart_session()
    await ward.cgm.measure(0)
    await until(lambda: gateway.cursors[CGM_ADDRESS].session == ward.cgm.session)
    sessions = [dict(reading.extras)[Extra.SESSION] for reading in gateway.taken]
    assert sessions == [old] * 31 + [ward.cgm.session]


async def test_a_meters_wrong_clock_is_corrected(ward: Ward) -> None:
    await ward.assign("gls")
    await ward.meter.measure()
    gateway = await ward.gateway()
    await until(lambda: bool(gateway.taken))
    [emitted] = ward.emitted(GLS_ADDRESS)
    assert dict(gateway.taken[0].extras)[Extra.TIME_SOURCE] == TimeSource.DEVICE_CORRECTED
    assert abs(gateway.taken[0].time_ms - emitted["sent_ms"]) <= 2000


async def test_an_oximeter_is_heard_live_and_moves_no_cursor(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: len(ward.oximeter.subscribed()) == 2)
    await ward.oximeter.measure()
    await ward.oximeter.measure_spot()
    await until(lambda: len(gateway.taken) == 4)
    emitted = [value for line in ward.emitted(PLX_ADDRESS) for value in line["values"].items()]
    assert sorted((str(r.metric), str(r.mantissa)) for r in gateway.taken) == sorted(emitted)
    assert all(line["linked"] for line in ward.emitted(PLX_ADDRESS))
    assert gateway.cursors == {}


async def test_a_value_that_breaks_its_specification_is_counted_and_the_rest_goes_on(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: len(ward.oximeter.subscribed()) == 2)
    await ward.oximeter.notify(ward.oximeter.continuous, b"\x00\x01")
    await ward.oximeter.measure()
    await until(lambda: len(gateway.taken) == 2)
    assert gateway.causes() == ["decode"]


async def test_a_bond_missing_here_is_an_alert_and_never_a_new_pairing(ward: Ward) -> None:
    await ward.assign("cgm")
    first = await ward.gateway()
    await until(lambda: ("link-up", CGM_ADDRESS) in first.events)
    await ward.stop(first)
    ward.bonds.unlink()
    paired = pairings(ward.cgm.device)
    second = await ward.gateway()
    await until(lambda: second.causes().count("bond") >= 2)
    assert second.events == [("adapter-up",), ("bond-lost", CGM_ADDRESS)]
    assert paired == []
    assert second.taken == []


async def test_a_bond_missing_at_the_wearable_is_an_alert_and_never_a_new_pairing(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: ("link-up", CGM_ADDRESS) in gateway.events)
    paired = pairings(ward.cgm.device)
    await ward.cgm.forget_bonds()
    await ward.cgm.drop()
    await until(lambda: gateway.causes().count("bond") >= 2)
    assert gateway.events.count(("bond-lost", CGM_ADDRESS)) == 1
    assert paired == []


async def test_an_absent_wearable_does_not_keep_the_others_waiting(ward: Ward) -> None:
    await ward.assign("cgm", "gls")
    await ward.cgm.device.stop_advertising()
    await ward.meter.measure()
    gateway = await ward.gateway()
    await until(lambda: GLS_ADDRESS in gateway.cursors)
    assert gateway.errors == []


async def test_a_bond_that_a_man_in_the_middle_could_have_made_is_not_used(ward: Ward) -> None:
    await ward.assign("cgm")
    first = await ward.gateway()
    await until(lambda: ("link-up", CGM_ADDRESS) in first.events)
    await ward.stop(first)
    ward.bonds.write_text(ward.bonds.read_text().replace('"authenticated": true', '"authenticated": false'))
    second = await ward.gateway()
    await until(lambda: any("not authenticated" in str(error) for error in second.errors))
    assert second.events == [("adapter-up",)]
    assert second.taken == []
