"""The adapter comes and goes, people pair and assign, peers lie: over real stacks on a virtual controller."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from bumble.pairing import PairingConfig, PairingDelegate

from gateway import health
from gateway.ble.healing import LinkState
from gateway.ble.inventory import Inventory
from gateway.ble.pairing import Method, Security
from gateway.errors import PairingError
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS
from gateway.lab.pairing import Wearer

from .conftest import Gateway, Ward, until


@contextlib.asynccontextmanager
async def person(gateway: Gateway, wearer: Wearer) -> AsyncIterator[list[Method]]:
    """Somebody who compares numbers, and types what a display shows."""
    asked: list[Method] = []

    async def answer() -> None:
        while True:
            prompt = await gateway.wearables.prompted()
            asked.append(prompt.method)
            if prompt.method is Method.SHOW:
                wearer.type(prompt.number)
                return
            await until(lambda: wearer.shown is not None)
            same = prompt.method is Method.ENTER or prompt.number == wearer.shown
            gateway.wearables.answer(wearer.shown if same else None)

    task = asyncio.create_task(answer())
    try:
        yield asked
    finally:
        task.cancel()


async def idle(ward: Ward, **config: object) -> Gateway:
    """A gateway without wearables, its adapter up."""
    gateway = await ward.gateway(**config)
    await until(lambda: gateway.bluetooth.adapter_up is True)
    return gateway


async def test_a_scan_tells_what_is_nearby(ward: Ward) -> None:
    gateway = await idle(ward)
    found = await gateway.bluetooth.scan(0.3)
    assert {heard.address: heard.services for heard in found} == {
        CGM_ADDRESS: {0x181F},
        GLS_ADDRESS: {0x1808},
        PLX_ADDRESS: {0x1822},
    }


async def test_a_wearable_is_paired_then_assigned_and_only_then_yields_data(ward: Ward) -> None:
    gateway = await idle(ward)
    async with person(gateway, ward.cgm.wearer) as asked:
        device = await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    assert asked == [Method.COMPARE]
    assert (device.bond, device.stream, device.identity.serial) == (Security.AUTHENTICATED, None, ward.cgm.serial)
    assert gateway.bluetooth.links.states[CGM_ADDRESS] is LinkState.UNASSIGNED
    await asyncio.sleep(0.2)
    assert gateway.taken == []
    stream = gateway.wearables.assign(CGM_ADDRESS, since_ms=0)
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    assert gateway.streams == {stream}
    known = Inventory.load(ward.devices).get(CGM_ADDRESS)
    assert (known.stream, known.bond) == (stream, Security.AUTHENTICATED)
    codes = [event[:2] for event in gateway.events]
    assert codes[1:] == [
        ("pairing-opened", CGM_ADDRESS),
        ("paired", CGM_ADDRESS),
        ("assigned", CGM_ADDRESS),
        ("link-up", CGM_ADDRESS),
    ]


async def test_assigning_again_starts_a_new_stream_without_the_records_of_the_one_before(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    taken = len(gateway.taken)
    stream = gateway.wearables.assign(CGM_ADDRESS)
    gateway.streams.clear()
    await until(lambda: gateway.codes().count("link-up") == 2)
    await until(lambda: bool(ward.cgm.subscribers(ward.cgm.measurement)))
    for offset in range(31, 60):
        await ward.cgm.measure(offset)
        await asyncio.sleep(0.05)
    assert gateway.streams == {stream}
    assert set(gateway.sequences(CGM_ADDRESS)[taken:]) <= set(range(31, 60))
    assert gateway.sequences(CGM_ADDRESS)[-1] == 59
    assert ("assigned", CGM_ADDRESS, stream, None) in gateway.events


async def test_unassigning_ends_the_link(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: len(ward.oximeter.subscribed()) == 2)
    gateway.wearables.unassign(PLX_ADDRESS)
    await until(lambda: not ward.oximeter.device.connections)
    assert gateway.bluetooth.links.states == {PLX_ADDRESS: LinkState.UNASSIGNED}


async def test_a_person_who_sees_another_number_says_no(ward: Ward) -> None:
    gateway = await idle(ward)
    pairing = asyncio.create_task(gateway.wearables.pair(CGM_ADDRESS, "cgm"))
    await gateway.wearables.prompted()
    gateway.wearables.answer(None)
    with pytest.raises(PairingError):
        await pairing
    assert CGM_ADDRESS not in gateway.inventory
    assert not await gateway.radio.bonded(CGM_ADDRESS)
    assert ("pairing-failed", CGM_ADDRESS) in gateway.events


async def test_a_wrong_passkey_makes_no_bond_and_repeated_attempts_are_stopped(ward: Ward) -> None:
    gateway = await idle(ward)
    for _ in range(3):
        ward.meter.wearer = Wearer(PairingDelegate.KEYBOARD_INPUT_ONLY)
        ward.meter.wearer.type(7)
        with pytest.raises(PairingError, match="failed"):
            await gateway.wearables.pair(GLS_ADDRESS, "gls")
    assert not await gateway.radio.bonded(GLS_ADDRESS)
    with pytest.raises(PairingError, match="3 failed attempts"):
        await gateway.wearables.pair(GLS_ADDRESS, "gls")


async def test_a_downgrade_to_just_works_is_refused_and_told(ward: Ward) -> None:
    gateway = await idle(ward)
    ward.cgm.wearer = Wearer(PairingDelegate.NO_OUTPUT_NO_INPUT)
    with pytest.raises(PairingError):
        await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    assert not await gateway.radio.bonded(CGM_ADDRESS)
    assert ("pairing-refused", CGM_ADDRESS) in gateway.events


async def test_just_works_is_recorded_as_what_it_is_where_the_policy_allows_it(ward: Ward) -> None:
    gateway = await idle(ward, just_works=["plx"])
    ward.oximeter.wearer = Wearer(PairingDelegate.NO_OUTPUT_NO_INPUT)
    device = await gateway.wearables.pair(PLX_ADDRESS, "plx")
    assert device.bond is Security.ENCRYPTED
    gateway.wearables.assign(PLX_ADDRESS)
    await until(lambda: len(ward.oximeter.subscribed()) == 2)


async def test_a_policy_that_becomes_stricter_takes_nothing_more_over_a_weak_bond(ward: Ward) -> None:
    gateway = await idle(ward, just_works=["plx"])
    ward.oximeter.wearer = Wearer(PairingDelegate.NO_OUTPUT_NO_INPUT)
    await gateway.wearables.pair(PLX_ADDRESS, "plx")
    gateway.wearables.assign(PLX_ADDRESS)
    await ward.stop(gateway)
    strict = await ward.gateway()
    await until(lambda: any("not authenticated" in str(error) for error in strict.errors))
    assert strict.taken == []


async def test_whoever_pairs_outside_the_window_is_refused_each_time_and_told_once(ward: Ward) -> None:
    gateway = await idle(ward)
    for _ in range(3):
        client = await gateway.radio.connect(CGM_ADDRESS, timeout_s=30.0, on_disconnect=lambda: None)
        with pytest.raises(PairingError):
            await gateway.radio.pair(client)
        await client.disconnect()
    assert gateway.causes() == 3 * ["pairing"]
    assert gateway.events[1:] == [("pairing-refused", CGM_ADDRESS)]
    assert not await gateway.radio.bonded(CGM_ADDRESS)


async def test_the_device_chosen_is_the_only_one_that_gets_in(ward: Ward) -> None:
    gateway = await idle(ward)
    pairing = asyncio.create_task(gateway.wearables.pair(CGM_ADDRESS, "cgm"))
    await gateway.wearables.prompted()
    client = await gateway.radio.connect(PLX_ADDRESS, timeout_s=30.0, on_disconnect=lambda: None)
    with pytest.raises(PairingError):
        await gateway.radio.pair(client)
    await client.disconnect()
    assert ("pairing-refused", PLX_ADDRESS) in gateway.events
    gateway.wearables.answer(None)
    with pytest.raises(PairingError):
        await pairing


async def test_a_wearable_that_knows_only_legacy_pairing_is_refused(ward: Ward) -> None:
    gateway = await idle(ward)
    wearer = ward.cgm.wearer
    ward.cgm.device.pairing_config_factory = lambda _: PairingConfig(sc=False, delegate=wearer)
    async with person(gateway, wearer):
        with pytest.raises(PairingError, match="Secure Connections"):
            await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    assert not await gateway.radio.bonded(CGM_ADDRESS)


async def test_pairing_again_needs_an_explicit_unpairing_and_keeps_the_assignment(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    with pytest.raises(PairingError, match="unpair it first"):
        await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    await gateway.wearables.unpair(CGM_ADDRESS)
    assert gateway.bluetooth.links.states[CGM_ADDRESS] is LinkState.UNPAIRED
    await ward.cgm.forget_bonds()
    async with person(gateway, ward.cgm.wearer):
        await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    await until(lambda: gateway.codes().count("link-up") == 2)
    assert gateway.streams == {gateway.inventory.get(CGM_ADDRESS).stream}


async def test_another_device_under_the_address_of_a_known_one_is_not_paired_in_its_place(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    await gateway.wearables.unpair(CGM_ADDRESS)
    await ward.cgm.forget_bonds()
    ward.cgm.serial = "another"
    async with person(gateway, ward.cgm.wearer):
        with pytest.raises(Exception, match="serial is another"):
            await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    assert not await gateway.radio.bonded(CGM_ADDRESS)


async def test_a_wearable_with_another_serial_is_quarantined_until_a_person_releases_it(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: ("link-up", PLX_ADDRESS) in gateway.events)
    ward.oximeter.serial = "another"
    await ward.oximeter.drop()
    await until(lambda: ("quarantined", PLX_ADDRESS, "serial-changed") in gateway.events)
    assert Inventory.load(ward.devices).get(PLX_ADDRESS).quarantine == "serial-changed"
    await asyncio.sleep(0.3)
    assert gateway.codes().count("link-up") == 1
    gateway.wearables.release(PLX_ADDRESS)
    await until(lambda: gateway.codes().count("link-up") == 2)
    assert gateway.inventory.get(PLX_ADDRESS).identity.serial == "another"


async def test_what_a_wearable_says_while_a_person_removes_it_ends_nothing(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: ("link-up", PLX_ADDRESS) in gateway.events and bool(ward.oximeter.subscribed()))
    gateway.inventory.remove(PLX_ADDRESS)
    before = len(gateway.taken)
    await ward.oximeter.measure()
    await until(lambda: len(gateway.taken) > before or gateway.task.done())
    assert not gateway.task.done()


async def test_what_a_wearable_shows_of_itself_is_kept(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: ("link-up", CGM_ADDRESS) in gateway.events)
    await ward.stop(gateway)
    known = Inventory.load(ward.devices).get(CGM_ADDRESS)
    assert (known.identity.make, known.identity.model) == ("iomt-gateway", "Virtual CGM")
    assert (known.battery_pct, known.rssi_dbm) == (80, -50)
    assert health.decode(0x2AA8, bytes.fromhex(known.features)).fields()["features"] == 1 << 12
    assert known.last_seen_ms


async def test_an_adapter_that_is_pulled_out_ends_nothing_and_is_used_again(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    ward.air.cut()
    await until(lambda: "adapter-down" in gateway.codes())
    await until(lambda: gateway.codes().count("link-up") == 2)
    assert gateway.codes().count("adapter-up") == 2
    assert gateway.sequences(CGM_ADDRESS) == list(range(31))


async def test_a_gateway_without_an_adapter_waits_for_one(ward: Ward) -> None:
    await ward.assign("cgm")
    await ward.air.close()
    gateway = await ward.gateway()
    await until(lambda: gateway.causes() == ["adapter"])
    assert gateway.codes() == ["adapter-down"]
    await ward.air.serve(ward.socket)
    await until(lambda: ("link-up", CGM_ADDRESS) in gateway.events)


async def test_an_adapter_that_hears_nothing_is_reset_and_then_given_to_the_root_unit(ward: Ward) -> None:
    await ward.assign("cgm")
    for wearable in (ward.cgm, ward.meter, ward.oximeter):
        await wearable.device.stop_advertising()
    gateway = await ward.gateway(adapter_silent_s=0.2)
    await until(lambda: "adapter-reset-unit" in gateway.codes())
    remedies = [code for code in gateway.codes() if code.startswith("adapter-reset")]
    assert remedies[:2] == ["adapter-reset", "adapter-reset-unit"]
    await until((ward.state / "adapter-reset").exists)


async def test_a_link_that_says_nothing_is_made_anew(ward: Ward) -> None:
    await ward.assign("plx")
    gateway = await ward.gateway(silent_s=0.3)
    await until(lambda: gateway.codes().count("link-up") == 2)
    assert gateway.codes().count("link-silent") >= 1


async def test_an_adapter_with_a_link_is_trusted_however_silent_it_is(ward: Ward) -> None:
    await ward.assign("gls", "cgm")
    await ward.cgm.device.stop_advertising()
    await ward.oximeter.device.stop_advertising()
    gateway = await ward.gateway(adapter_silent_s=0.5)
    await until(lambda: ("link-up", GLS_ADDRESS) in gateway.events)
    await asyncio.sleep(1.5)
    assert "adapter-reset" not in gateway.codes()
    assert gateway.codes().count("link-up") == 1
