"""Is it still the same wearable, on the same person? Its key, services, serial number, name and values are compared."""

from datetime import timedelta

import pytest
from bumble.device import Connection, Device

from gateway.ble.healing import LinkState
from gateway.ble.inventory import Inventory
from gateway.ble.pairing import Security
from gateway.errors import PairingError
from gateway.health import cgm, gls
from gateway.health.date_time import DateTime
from gateway.health.sfloat import Number
from gateway.lab.bonds import BondStore, bond_beforehand
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import Peripheral

from .conftest import OTHER_ADDRESS, Gateway, Ward, until
from .test_bluetooth import idle, person


async def pair(gateway: Gateway, wearable: Peripheral, profile: str) -> None:
    async with person(gateway, wearable.wearer):
        await gateway.wearables.pair(wearable.address, profile)


async def known(ward: Ward) -> Gateway:
    """A gateway that has linked the oximeter."""
    await ward.assign("plx")
    gateway = await ward.gateway()
    await until(lambda: ("link-up", PLX_ADDRESS) in gateway.events)
    return gateway


async def test_another_service_table_counts_once_it_was_seen_twice(ward: Ward) -> None:
    gateway = await known(ward)
    ward.oximeter.add_service(0x1805, ward.oximeter.readable(0x2A2B, bytes))
    await ward.oximeter.drop()
    await until(lambda: ("quarantined", PLX_ADDRESS, "services-changed") in gateway.events)
    assert sum("looked at again" in str(error) for error in gateway.errors) == 1
    assert gateway.codes().count("link-up") == 1


async def test_a_service_table_that_was_seen_only_in_part_is_no_other_wearable(ward: Ward) -> None:
    gateway = await known(ward)
    server = ward.oximeter.device.gatt_server
    before = list(server.attributes)
    ward.oximeter.add_service(0x1805, ward.oximeter.readable(0x2A2B, bytes))

    def mend(_reason: int) -> None:
        server.attributes[:] = before

    ward.oximeter.device.on(Device.EVENT_CONNECTION, lambda c: c.on(Connection.EVENT_DISCONNECTION, mend))
    await ward.oximeter.drop()
    await until(lambda: gateway.codes().count("link-up") == 2)
    assert any("looked at again" in str(error) for error in gateway.errors)
    assert "quarantined" not in gateway.codes()


async def test_a_bond_that_was_not_made_here_is_not_used_and_must_be_made_anew(ward: Ward) -> None:
    gateway = await idle(ward)
    await pair(gateway, ward.cgm, "cgm")
    gateway.wearables.assign(CGM_ADDRESS, since_ms=0)
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    await ward.stop(gateway)
    bond_beforehand(ward.bonds, [CGM_ADDRESS])
    keys = await BondStore(ward.bonds).get(CGM_ADDRESS)
    assert keys
    await ward.cgm.take_bond(keys)

    gateway = await ward.gateway()
    await until(lambda: ("quarantined", CGM_ADDRESS, "key-changed") in gateway.events)
    assert "link-up" not in gateway.codes()
    assert Inventory.load(ward.devices).get(CGM_ADDRESS).bond is Security.NONE
    gateway.wearables.release(CGM_ADDRESS)
    assert gateway.bluetooth.links.states[CGM_ADDRESS] is LinkState.UNPAIRED
    with pytest.raises(PairingError, match="unpair it first"):
        await gateway.wearables.pair(CGM_ADDRESS, "cgm")
    await gateway.wearables.unpair(CGM_ADDRESS)
    await ward.cgm.forget_bonds()
    await pair(gateway, ward.cgm, "cgm")
    await until(lambda: ("link-up", CGM_ADDRESS) in gateway.events)


async def test_a_second_wearable_with_the_serial_number_of_the_first_yields_nothing_until_a_person_says_so(
    ward: Ward,
) -> None:
    twin = PulseOximeter(ward.air.link, ledger=ward.ledger, seed=1, address=OTHER_ADDRESS)
    twin.serial = ward.oximeter.serial
    await twin.start()
    gateway = await idle(ward)
    await pair(gateway, ward.oximeter, "plx")
    await pair(gateway, twin, "plx")
    assert gateway.events[-1] == ("quarantined", OTHER_ADDRESS, "duplicate-serial")
    gateway.wearables.assign(OTHER_ADDRESS)
    assert gateway.bluetooth.links.states[OTHER_ADDRESS] is LinkState.QUARANTINED
    gateway.wearables.release(OTHER_ADDRESS)
    await until(lambda: ("link-up", OTHER_ADDRESS) in gateway.events)
    await twin.stop()


async def test_two_wearables_that_claim_one_address_are_told(ward: Ward) -> None:
    gateway = await idle(ward)
    await pair(gateway, ward.oximeter, "plx")
    double = GlucoseMeter(ward.air.link, ledger=ward.ledger, seed=1, address=PLX_ADDRESS)
    await double.start()
    await until(lambda: not ward.oximeter.device.connections)
    await gateway.bluetooth.scan(0.5)
    assert gateway.events.count(("duplicate-address", PLX_ADDRESS)) == 1
    assert gateway.inventory.get(PLX_ADDRESS).quarantine is None
    await double.stop()


async def test_values_that_no_one_body_has_are_the_end_of_the_link(ward: Ward) -> None:
    await ward.assign("cgm")
    gateway = await ward.gateway()
    await until(lambda: CGM_ADDRESS in gateway.cursors)
    for offset, mg_dl in ((31, 80), (32, 300)):
        record = cgm.Record(glucose=Number(mg_dl), offset_min=offset).encode(e2e_crc=True)
        await ward.cgm.notify(ward.cgm.measurement, record)
    await until(lambda: ("quarantined", CGM_ADDRESS, "not-one-person") in gateway.events)
    assert gateway.sequences(CGM_ADDRESS)[-1] == 31
    await until(lambda: not ward.cgm.device.connections)
    assert Inventory.load(ward.devices).get(CGM_ADDRESS).quarantine == "not-one-person"


async def test_numbers_that_run_backwards_with_their_times_are_the_end_of_the_link(ward: Ward) -> None:
    await ward.assign("gls")
    for _ in range(3):
        await ward.meter.measure()
    gateway = await ward.gateway()
    await until(lambda: GLS_ADDRESS in gateway.cursors)
    await ward.meter.measure()
    await until(lambda: gateway.cursors[GLS_ADDRESS].sequence == 3)
    earlier = DateTime.of(ward.ledger.now() - timedelta(hours=2))
    forged = gls.Glucose(sequence=1, base_time=earlier, concentration=Number(100, -5), sample_type=0x11)
    await ward.meter.notify(ward.meter._measurement, forged.encode())
    await until(lambda: ("quarantined", GLS_ADDRESS, "sequence-backwards") in gateway.events)
    assert gateway.sequences(GLS_ADDRESS) == [0, 1, 2, 3]
