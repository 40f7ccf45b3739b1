"""Bonded wearables on the real stack: they come back, whatever went away, within a minute and without a new pairing."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from dbus_fast import Variant

from gateway.ble.dbus import DEVICE
from gateway.ble.healing import LinkState
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS
from tests.ble.conftest import Gateway, until

from .conftest import PATIENCE_S, Ward
from .stack import ADAPTER_ADDRESS
from .test_1_pairing import key_type

ALL = (CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS)


def linked(gateway: Gateway, *addresses: str) -> Callable[[], bool]:
    return lambda: all(gateway.bluetooth.links.states[address] is LinkState.UP for address in addresses)


async def test_assigned_wearables_are_linked_and_what_they_stored_is_fetched(ward: Ward) -> None:
    [gateway] = ward.gateways
    await ward.meter.measure()
    for address in ALL:
        gateway.wearables.assign(address, since_ms=0)
    await until(linked(gateway, *ALL), timeout_s=PATIENCE_S)
    await until(lambda: {CGM_ADDRESS, GLS_ADDRESS} <= gateway.cursors.keys(), timeout_s=PATIENCE_S)
    assert gateway.sequences(CGM_ADDRESS) == list(range(31))
    assert gateway.sequences(GLS_ADDRESS) == [0]


async def test_values_arrive_live(ward: Ward) -> None:
    [gateway] = ward.gateways
    await until(lambda: bool(ward.oximeter.subscribed()), timeout_s=PATIENCE_S)
    before = len(gateway.taken)
    await ward.oximeter.measure()
    await until(lambda: len(gateway.taken) > before, timeout_s=PATIENCE_S)


@pytest.mark.parametrize("lost", ["bluetoothd and its cache", "adapter and its name", "dbus", "reset", "unit"])
async def test_comes_back_within_a_minute_and_misses_nothing(
    ward: Ward, lost: str, record_property: Callable[[str, object], None]
) -> None:
    gateway = ward.gateways[-1]
    stack = ward.stack

    async def restart_dbus() -> None:
        await stack.stop_dbus()
        await ward.meter.measure()
        await stack.start_dbus()
        await stack.stop_bluetoothd()  # as systemd does: it requires the bus
        await stack.start_bluetoothd()

    async def replug() -> None:
        await stack.unplug()
        await ward.meter.measure()
        await stack.plug_another()
        await stack.plug()

    async def restart_bluetoothd() -> None:
        await stack.stop_bluetoothd()
        for cache in Path("/var/lib/bluetooth").glob("*/cache"):
            shutil.rmtree(cache)
        await ward.meter.measure()
        await stack.start_bluetoothd()

    async def run_the_root_units_script() -> None:
        script = await asyncio.create_subprocess_exec("/opt/app/systemd/iomt-adapter-reset", ADAPTER_ADDRESS)
        assert await script.wait() == 0

    lose: dict[str, Callable[[], Awaitable[None]]] = {
        "bluetoothd and its cache": restart_bluetoothd,
        "adapter and its name": replug,
        "dbus": restart_dbus,
        "reset": gateway.radio.reset,
        "unit": run_the_root_units_script,
    }
    ups = gateway.codes().count("adapter-up")
    await lose[lost]()
    loop = asyncio.get_running_loop()
    started = loop.time()
    await until(lambda: gateway.codes().count("adapter-up") > ups, timeout_s=PATIENCE_S)
    await until(linked(gateway, *ALL), timeout_s=PATIENCE_S)
    recovered_s = loop.time() - started
    record_property("recovered_s", round(recovered_s, 1))
    assert recovered_s < PATIENCE_S
    newest = len(ward.meter.store) - 1
    await until(lambda: gateway.sequences(GLS_ADDRESS)[-1] == newest, timeout_s=PATIENCE_S)
    assert sorted(set(gateway.sequences(GLS_ADDRESS))) == list(range(newest + 1))
    assert "bond-lost" not in gateway.codes()
    assert not gateway.task.done()


async def test_a_new_gateway_comes_back_on_the_bonds(ward: Ward) -> None:
    await ward.gateways[-1].stop()
    gateway = await ward.gateway(ADAPTER_ADDRESS, just_works=["plx"])
    await until(linked(gateway, *ALL), timeout_s=PATIENCE_S)
    assert "paired" not in gateway.codes()


async def test_a_wearable_that_lost_its_bond_is_an_alert_and_is_never_paired_again(ward: Ward) -> None:
    gateway = ward.gateways[-1]
    await ward.cgm.forget_bonds()
    await ward.cgm.drop()
    await until(lambda: ("bond-lost", CGM_ADDRESS) in gateway.events, timeout_s=2 * PATIENCE_S)
    assert await ward.cgm.keys.get_all() == []
    assert linked(gateway, GLS_ADDRESS, PLX_ADDRESS)()


async def test_a_bond_that_this_side_has_lost_is_an_alert_and_is_never_made_again(ward: Ward) -> None:
    gateway = ward.gateways[-1]
    await gateway.radio.unpair(GLS_ADDRESS)
    await until(lambda: ("bond-lost", GLS_ADDRESS) in gateway.events, timeout_s=2 * PATIENCE_S)
    assert key_type(GLS_ADDRESS) is None
    assert linked(gateway, PLX_ADDRESS)()


async def test_a_bond_that_somebody_else_has_made_is_not_used(ward: Ward) -> None:
    gateway = ward.gateways[-1]
    device = f"{gateway.radio._open.path}/dev_{PLX_ADDRESS.replace(':', '_')}"
    await gateway.radio._open.set(device, DEVICE, "Alias", Variant("s", "bluetoothctl's"))
    await ward.oximeter.drop()
    await until(lambda: ("quarantined", PLX_ADDRESS, "key-changed") in gateway.events, timeout_s=PATIENCE_S)
    assert "paired" not in gateway.codes()
