"""A ward on the real stack: virtual wearables behind /dev/vhci, and gateways whose radio is BlueZ's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.ble.bluez import BluezRadio
from gateway.ble.inventory import Inventory, Profile
from gateway.ble.pairing import Method, Prompt
from gateway.clock.book import ClockBook
from gateway.config import BleSection
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS, Cgm, CgmPace, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import LedgerWriter, Peripheral
from tests.ble.conftest import Gateway, system_clock, until

from .stack import Stack

PROFILES: dict[str, Profile] = {CGM_ADDRESS: "cgm", GLS_ADDRESS: "gls", PLX_ADDRESS: "plx"}
PATIENCE_S = 60.0
"""For anything: the guest is slow, and recovery within a minute is what is asked for."""


class Ward:
    """Three wearables, the stack, and what a gateway keeps."""

    def __init__(self, directory: Path) -> None:
        self.state = directory
        self.stack = Stack()
        self.ledger = LedgerWriter(directory / "ledger.jsonl")
        pace = CgmPace(session_age_s=3600, lag_min=30, interval_min=1)
        self.cgm = Cgm(self.stack.link, ledger=self.ledger, seed=1, pace=pace)
        self.meter = GlucoseMeter(self.stack.link, ledger=self.ledger, seed=1)
        self.oximeter = PulseOximeter(self.stack.link, ledger=self.ledger, seed=1)
        self.wearables: dict[str, Peripheral] = {w.address: w for w in (self.cgm, self.meter, self.oximeter)}
        self.gateways: list[Gateway] = []

    async def start(self) -> None:
        await self.stack.start_dbus()
        await self.stack.plug()
        await self.stack.start_bluetoothd()
        for wearable in self.wearables.values():
            await wearable.start()

    async def gateway(self, adapter: str = "hci0", **config: Any) -> Gateway:
        """Start a gateway; its adapter is up when this returns."""
        options = {"retry_max_s": 2.0, "racp_timeout_s": 20.0, "reset_request": self.state / "adapter-reset", **config}
        cursors = self.gateways[-1].cursors if self.gateways else {}
        inventory = Inventory.load(self.state / "devices.json")
        gateway = Gateway(
            BluezRadio(adapter),
            inventory,
            cursors,
            BleSection(**options),
            clock=system_clock(),
            book=ClockBook.load(self.state / "clocks.json"),
        )
        self.gateways.append(gateway)
        await until(lambda: gateway.bluetooth.adapter_up is True, timeout_s=PATIENCE_S)
        return gateway

    async def pair(self, gateway: Gateway, address: str) -> list[Prompt]:
        """Pair as a careful person does; returns what they were asked."""
        asked: list[Prompt] = []

        async def person() -> None:
            while True:
                prompt = await gateway.wearables.prompted()
                asked.append(prompt)
                wearer = self.wearables[address].wearer
                if prompt.method is Method.SHOW:
                    wearer.type(prompt.number)
                    return
                await until(lambda wearer=wearer: wearer.shown is not None, timeout_s=PATIENCE_S)
                same = prompt.method is Method.ENTER or prompt.number == wearer.shown
                gateway.wearables.answer(wearer.shown if same else None)

        pairing = asyncio.create_task(gateway.wearables.pair(address, PROFILES[address]))
        answering = asyncio.create_task(person())
        try:
            await pairing
        finally:
            answering.cancel()
        return asked

    async def close(self) -> None:
        for gateway in self.gateways:
            await gateway.stop()
        for wearable in self.wearables.values():
            await wearable.stop()
        await self.stack.close()
        self.ledger.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ward(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ward]:
    """One for all tests, in the order of their files: what one has bonded the next comes back on."""
    ward = Ward(tmp_path_factory.mktemp("ward"))
    await ward.start()
    yield ward
    await ward.close()
