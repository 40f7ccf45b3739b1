"""32 wearables at once: after a power cut each gets its turn, one at a time; who is silent among them is noticed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from bleak import BleakClient

from gateway.ble.healing import LinkState
from gateway.ble.inventory import Device, Inventory
from gateway.ble.pairing import Security
from gateway.lab.bonds import BondStore, bond_beforehand
from gateway.lab.devices import PulseOximeter
from gateway.lab.radio import VirtualRadio

from .conftest import Gateway, Ward, until

COUNT = 32
PATIENCE_S = 180.0


class Turns(VirtualRadio):
    """Notes who is being connected to, in their order."""

    def __init__(self, ward: Ward) -> None:
        super().__init__(ward.socket, ward.bonds)
        self.turns: list[str] = []
        self.now: set[str] = set()
        self.most = 0

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        self.turns.append(address)
        self.now.add(address)
        self.most = max(self.most, len(self.now))
        try:
            return await super().connect(address, timeout_s=timeout_s, on_disconnect=on_disconnect)
        finally:
            self.now.discard(address)


@pytest.fixture
async def oximeters(ward: Ward) -> AsyncIterator[list[PulseOximeter]]:
    """All of one gateway, bonded and each somebody's."""
    addresses = [f"F0:00:00:00:02:{number:02X}" for number in range(COUNT)]
    bond_beforehand(ward.bonds, addresses)
    bonds, inventory = BondStore(ward.bonds), Inventory.load(ward.devices)
    oximeters = [PulseOximeter(ward.air.link, ledger=ward.ledger, seed=1, address=address) for address in addresses]
    for number, oximeter in enumerate(oximeters):
        inventory.put(Device(oximeter.address, "plx", number.to_bytes(16, "big"), bond=Security.AUTHENTICATED))
        keys = await bonds.get(oximeter.address)
        assert keys
        await oximeter.take_bond(keys)
        oximeter.device.advertising_interval_min = oximeter.device.advertising_interval_max = 250.0
        await oximeter.start()
    yield oximeters
    for oximeter in oximeters:
        await oximeter.stop()


async def speak(oximeter: PulseOximeter) -> None:
    while True:
        await oximeter.measure()
        await asyncio.sleep(0.1)


def told(gateway: Gateway, code: str) -> Counter[str]:
    return Counter(event[1] for event in gateway.events if event[0] == code)


async def test_each_gets_its_turn_and_who_is_silent_or_has_lost_its_bond_keeps_nobody_waiting(
    ward: Ward, oximeters: list[PulseOximeter]
) -> None:
    radio = Turns(ward)
    silent, stranger, *_ = oximeters
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(speak(oximeter)) for oximeter in oximeters if oximeter is not silent]
        gateway = await ward.gateway(radio=radio, silent_s=5.0, retry_max_s=2.0, connect_timeout_s=20.0)
        await until(lambda: len(told(gateway, "link-up")) == COUNT, timeout_s=PATIENCE_S)
        await until(lambda: told(gateway, "link-up")[silent.address] == 2, timeout_s=PATIENCE_S)
        assert told(gateway, "link-silent").keys() == {silent.address}
        assert len({reading.device for reading in gateway.taken}) == COUNT - 1

        await stranger.forget_bonds()
        radio.turns.clear()
        before = told(gateway, "link-up")
        ward.air.cut()
        others = {oximeter.address for oximeter in oximeters if oximeter is not stranger}
        await until(lambda: (told(gateway, "link-up") - before).keys() == others, timeout_s=PATIENCE_S)
        links = gateway.bluetooth.links
        await until(lambda: links.states[stranger.address] is LinkState.BOND_LOST, timeout_s=PATIENCE_S)
        for task in tasks:
            task.cancel()
    assert radio.most == 1
    assert Counter(radio.turns).keys() == {oximeter.address for oximeter in oximeters}
    assert all(
        turns == 1
        for address, turns in Counter(radio.turns).items()
        if address not in {stranger.address, silent.address}
    )
