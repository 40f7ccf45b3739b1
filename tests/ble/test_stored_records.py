"""Wearables that are busy, lie, stay silent or damage what they send: the gap stays open, visible, and is closed."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from gateway.ble.collector import Backfill
from gateway.health import cgm
from gateway.health.sfloat import Number
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS
from gateway.model import Cursor, Extra

from .conftest import Gateway, Ward, until

COUNT, REPORT = 4, 1


def backfilled(gateway: Gateway) -> dict[int, bool]:
    """By sequence, whether it came from the wearable's store."""
    told = [dict(reading.extras) for reading in gateway.taken]
    return {extras[Extra.SEQUENCE]: Extra.BACKFILLED in extras for extras in told}


async def fetched(gateway: Gateway, address: str = CGM_ADDRESS) -> None:
    await until(lambda: gateway.bluetooth.links.backfills[address] is Backfill.COMPLETE, timeout_s=15.0)


@pytest.mark.parametrize(
    ("opcode", "answer"),
    [
        (COUNT, lambda _records: ((), None)),
        (COUNT, lambda _records: ((), bytes([6, 0, 4, 10]))),
        (COUNT, lambda _records: ((), b"\x05\x00\xff\x00")),
        (COUNT, lambda _records: ((), b"\x05")),
        (REPORT, lambda records: (records, None)),
        (REPORT, lambda records: (records[:5], bytes([6, 0, 1, 8]))),
        (REPORT, lambda records: (list(records) * 20, bytes([6, 0, 1, 1]))),
    ],
    ids=["never counts", "busy", "counts too many", "cuts its count", "never ends", "gives up", "does not stop"],
)
async def test_a_failed_transfer_is_visible_and_made_up_for_on_the_same_link(
    ward: Ward, opcode: int, answer: Callable
) -> None:
    await ward.assign("cgm")
    serve = ward.cgm.store.serve
    ward.cgm.store.answer = lambda request: serve(request) if request[0] != opcode else answer(serve(request)[0])
    gateway = await ward.gateway(racp_timeout_s=0.2)
    await until(lambda: "procedure" in gateway.causes(), timeout_s=15.0)
    assert gateway.bluetooth.links.backfills[CGM_ADDRESS] is Backfill.OPEN
    assert CGM_ADDRESS not in gateway.cursors
    ward.cgm.store.answer = serve
    await fetched(gateway)
    assert gateway.sequences(CGM_ADDRESS) == list(range(31))
    await ward.cgm.measure(31)
    await until(lambda: gateway.cursors.get(CGM_ADDRESS, Cursor("", "", 0)).sequence == 31)
    assert gateway.events.count(("link-up", CGM_ADDRESS)) == 1


async def test_a_wearable_that_announces_too_few_is_read_to_its_end(ward: Ward) -> None:
    await ward.assign("cgm")
    serve = ward.cgm.store.serve
    ward.cgm.store.answer = lambda request: ((), b"\x05\x00\x03\x00") if request[0] == COUNT else serve(request)
    gateway = await ward.gateway()
    await fetched(gateway)
    assert gateway.sequences(CGM_ADDRESS) == list(range(31))


async def test_a_procedure_that_still_runs_is_aborted(ward: Ward) -> None:
    await ward.assign("cgm")
    running = ward.cgm.store.procedure = asyncio.create_task(asyncio.sleep(60))
    gateway = await ward.gateway()
    await fetched(gateway)
    assert running.cancelled()
    assert gateway.causes() == ["procedure"]


async def test_a_wearable_that_cannot_select_by_number_is_read_whole(ward: Ward) -> None:
    await ward.assign("cgm")
    first = await ward.gateway()
    await fetched(first)
    await ward.stop(first)
    await ward.cgm.measure(31)
    serve = ward.cgm.store.serve
    ward.cgm.store.answer = lambda request: serve(request) if request[1] == 1 else ((), bytes([6, 0, request[0], 4]))
    second = await ward.gateway()
    await fetched(second)
    assert second.sequences(CGM_ADDRESS) == list(range(32))
    assert second.cursors[CGM_ADDRESS].sequence == 31
    assert second.errors == []


async def test_a_stored_record_that_cannot_be_read_does_not_hold_up_the_rest(ward: Ward) -> None:
    await ward.assign("gls")
    await ward.meter.measure()
    ward.meter.store.add(1, b"\x00\x01\x00\xea\x07\x02\x1e\x00\x00\x00")  # the 30th of February
    gateway = await ward.gateway()
    await fetched(gateway, GLS_ADDRESS)
    assert (gateway.sequences(GLS_ADDRESS), gateway.causes()) == ([0], ["decode"])


async def test_what_follows_a_damaged_record_in_a_notification_is_fetched(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await fetched(gateway)
    records = [cgm.Record(glucose=Number(130 - at), offset_min=at) for at in (31, 32)]
    octets = [record.encode(e2e_crc=True) for record in records]
    for record, encoded in zip(records, octets, strict=True):
        ward.cgm.store.add(record.offset_min, encoded)
    damaged = octets[1][:-1] + bytes([octets[1][-1] ^ 1])
    await ward.cgm.notify(ward.cgm.measurement, octets[0] + damaged)
    await until(lambda: 32 in backfilled(gateway), timeout_s=15.0)
    assert gateway.causes() == ["crc"]
    told = backfilled(gateway)
    assert (told[31], told[32]) == (False, True)
    await fetched(gateway)
    assert gateway.cursors[CGM_ADDRESS].sequence == 32


async def test_a_link_that_ends_in_mid_transfer_leaves_the_gap_open(ward: Ward) -> None:
    await ward.assign("cgm")
    serve = ward.cgm.store.serve
    dropped: list[asyncio.Future[None]] = []

    def break_off(request: bytes) -> tuple[Sequence[bytes], bytes | None]:
        if request[0] != REPORT:
            return serve(request)
        dropped.append(asyncio.ensure_future(ward.cgm.drop()))
        return serve(request)[0][:10], None

    ward.cgm.store.answer = break_off
    gateway = await ward.gateway()
    await until(lambda: len(dropped) >= 2, timeout_s=15.0)
    assert gateway.bluetooth.links.backfills[CGM_ADDRESS] is Backfill.OPEN
    ward.cgm.store.answer = serve
    await fetched(gateway)
    assert gateway.cursors[CGM_ADDRESS] == Cursor(CGM_ADDRESS, ward.cgm.session, 30)
    assert set(gateway.sequences(CGM_ADDRESS)) == set(range(31))


async def test_live_values_go_on_while_the_store_cannot_be_read(ward: Ward) -> None:
    await ward.assign("cgm")
    ward.cgm.store.answer = lambda request: ((), bytes([6, 0, request[0], 10]))
    gateway = await ward.gateway()
    await until(lambda: "procedure" in gateway.causes())
    for offset in (31, 32):
        await ward.cgm.measure(offset)
    await until(lambda: {31, 32} <= set(gateway.sequences(CGM_ADDRESS)))
    assert not any(backfilled(gateway).values())
    assert CGM_ADDRESS not in gateway.cursors


async def test_what_is_measured_during_a_transfer_does_not_wait_for_it_and_looks_live(ward: Ward) -> None:
    await ward.assign("cgm")
    serve = ward.cgm.store.serve
    ward.cgm.store.answer = lambda request: serve(request) if request[0] == COUNT else (serve(request)[0], None)
    gateway = await ward.gateway(racp_timeout_s=60.0)
    await until(lambda: bool(ward.cgm.subscribers(ward.cgm.measurement)))
    new = 61  # the session is an hour old
    await until(lambda: ward.cgm.store.procedure is not None)
    await ward.cgm.measure(new)
    await until(lambda: new in backfilled(gateway))
    assert backfilled(gateway) == {new: False}
    assert gateway.bluetooth.links.backfills[CGM_ADDRESS] is Backfill.OPEN


async def test_what_stores_nothing_has_no_gap(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: Backfill.NONE in gateway.bluetooth.links.backfills.values())
    await ward.oximeter.notify(ward.oximeter.continuous, b"\x00\x01")
    await until(lambda: gateway.causes() == ["decode"])
    assert list(gateway.bluetooth.links.backfills.values()) == [Backfill.NONE]
