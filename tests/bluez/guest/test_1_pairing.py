"""The three ways to pair, and what a hostile peer gets, on kernel and bluetoothd as Debian ships them."""

import asyncio
import re
from pathlib import Path

import pytest
from bleak import BleakClient
from bumble.pairing import PairingDelegate

from gateway.ble.pairing import Method, Security
from gateway.errors import PairingError
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS
from gateway.lab.pairing import Wearer

from .conftest import PATIENCE_S, Ward

AUTHENTICATED_P256, UNAUTHENTICATED_P256 = 3, 2


def key_type(address: str) -> int | None:
    """What kind of key the kernel made, by BlueZ's own files; None: it keeps none."""
    [info] = [*Path("/var/lib/bluetooth").glob(f"*/{address}/info"), None][:1]
    found = re.search(r"\[\w*LongTermKey\]\nKey=\w+\nAuthenticated=(\d)", info.read_text()) if info else None
    return int(found[1]) if found else None


async def test_a_scan_shows_the_wearables(ward: Ward) -> None:
    gateway = await ward.gateway(just_works=["plx"])
    found = await gateway.bluetooth.scan(5.0)
    assert {heard.address: heard.name for heard in found} == {
        address: wearable.device.name for address, wearable in ward.wearables.items()
    }


async def test_a_wearable_that_offers_only_just_works_is_turned_away(ward: Ward) -> None:
    [gateway] = ward.gateways
    ward.meter.wearer = Wearer(PairingDelegate.NO_OUTPUT_NO_INPUT)
    with pytest.raises(PairingError):
        await ward.pair(gateway, GLS_ADDRESS)
    assert GLS_ADDRESS not in gateway.inventory
    assert key_type(GLS_ADDRESS) is None


async def test_a_wrong_passkey_makes_no_bond_and_the_third_failure_is_the_last(ward: Ward) -> None:
    [gateway] = ward.gateways
    for _ in range(2):
        ward.meter.wearer = Wearer(PairingDelegate.KEYBOARD_INPUT_ONLY)
        ward.meter.wearer.type(7)
        with pytest.raises(PairingError):
            await gateway.wearables.pair(GLS_ADDRESS, "gls")
    assert key_type(GLS_ADDRESS) is None
    with pytest.raises(PairingError, match="3 failed attempts; wait"):
        await gateway.wearables.pair(GLS_ADDRESS, "gls")
    await gateway.stop()
    ward.gateways[:] = []
    await ward.gateway(just_works=["plx"])


async def test_a_wearable_that_asks_without_a_window_or_in_that_of_another_gets_no_bond(ward: Ward) -> None:
    [gateway] = ward.gateways

    async def ask() -> BleakClient:
        client = await gateway.radio.connect(CGM_ADDRESS, timeout_s=PATIENCE_S, on_disconnect=lambda: None)
        [connection] = ward.cgm.device.connections.values()
        connection.request_pairing()
        await asyncio.sleep(2.0)
        return client

    client = await ask()
    assert gateway.events == [("adapter-up",), ("pairing-refused", CGM_ADDRESS)]
    await client.disconnect()

    ward.meter.wearer = Wearer(PairingDelegate.DISPLAY_OUTPUT_ONLY)
    pairing = asyncio.create_task(gateway.wearables.pair(GLS_ADDRESS, "gls"))
    async with asyncio.timeout(PATIENCE_S):
        await gateway.wearables.prompted()
    client = await ask()
    gateway.wearables.answer(None)
    with pytest.raises(PairingError):
        await pairing
    await client.disconnect()
    assert key_type(CGM_ADDRESS) is key_type(GLS_ADDRESS) is None


async def test_pairs_by_numeric_comparison(ward: Ward) -> None:
    [gateway] = ward.gateways
    asked = await ward.pair(gateway, CGM_ADDRESS)
    assert [prompt.method for prompt in asked] == [Method.COMPARE]
    assert gateway.inventory.get(CGM_ADDRESS).bond is Security.AUTHENTICATED
    assert key_type(CGM_ADDRESS) == AUTHENTICATED_P256
    assert gateway.inventory.get(CGM_ADDRESS).identity.serial == ward.cgm.serial


async def test_pairs_by_the_number_on_the_wearable(ward: Ward) -> None:
    [gateway] = ward.gateways
    ward.meter.wearer = Wearer(PairingDelegate.DISPLAY_OUTPUT_ONLY)
    asked = await ward.pair(gateway, GLS_ADDRESS)
    assert [prompt.method for prompt in asked] == [Method.ENTER]
    assert key_type(GLS_ADDRESS) == AUTHENTICATED_P256


async def test_pairs_by_the_number_that_the_gateway_shows(ward: Ward) -> None:
    [gateway] = ward.gateways
    await gateway.wearables.unpair(GLS_ADDRESS)
    assert key_type(GLS_ADDRESS) is None
    await ward.meter.forget_bonds()
    ward.meter.wearer = Wearer(PairingDelegate.KEYBOARD_INPUT_ONLY)
    asked = await ward.pair(gateway, GLS_ADDRESS)
    assert [prompt.method for prompt in asked] == [Method.SHOW]
    assert key_type(GLS_ADDRESS) == AUTHENTICATED_P256


async def test_pairs_by_just_works_where_the_policy_allows_it_and_says_what_that_is_worth(ward: Ward) -> None:
    [gateway] = ward.gateways
    ward.oximeter.wearer = Wearer(PairingDelegate.NO_OUTPUT_NO_INPUT)
    await ward.pair(gateway, PLX_ADDRESS)
    assert gateway.inventory.get(PLX_ADDRESS).bond is Security.ENCRYPTED
    assert key_type(PLX_ADDRESS) == UNAUTHENTICATED_P256
