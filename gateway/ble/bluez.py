"""A Bluetooth adapter under BlueZ: links through bleak; pairing and the adapter itself through D-Bus.

BlueZ does not tell how a bond was made. So the agent is the witness: a pairing is worth what was asked and answered
while it ran (`pairing.Desk`), and the inventory keeps that.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak_retry_connector import establish_connection
from bleak_retry_connector.bluez import get_device_by_adapter
from dbus_fast import Variant

from gateway.ble import agent
from gateway.ble.dbus import ADAPTER, AGENT_MANAGER, DEVICE, BlueZ, CallError
from gateway.ble.pairing import Security
from gateway.ble.radio import ENDING_S, Ask, Heard, OnHeard, end
from gateway.errors import AdapterError, BondError, LinkError, PairingError

_PAIR_S = 120.0
_ATTEMPTS = 2
"""Of one connection; the link's own backoff does the rest."""
_FALLS = 5
_MARK = "iomt-gateway "


class BluezRadio:
    """A `radio.Radio` on the adapter of this name, such as "hci0", or of this address.

    One that was used before is found by its address: it may have another name when it comes back.
    """

    def __init__(self, adapter: str) -> None:
        self._wanted: tuple[str, ...] = (adapter,)
        self._adapter = adapter
        self._bluez: BlueZ | None = None

    async def open(self, ask: Ask) -> asyncio.Future[None]:
        """As `Radio.open`: power the adapter, answer BlueZ's pairing questions."""
        bluez = await BlueZ.connect(*self._wanted)
        self._adapter = bluez.path.rpartition("/")[2]
        try:
            await bluez.set(bluez.path, ADAPTER, "Powered", Variant("b", True))  # noqa: FBT003 - a D-Bus boolean
            await bluez.set(bluez.path, ADAPTER, "Pairable", Variant("b", False))  # noqa: FBT003 - same
            bluez.export(agent.PATH, agent.Agent(ask))
            await bluez.call("/org/bluez", AGENT_MANAGER, "RegisterAgent", "os", [agent.PATH, agent.CAPABILITY])
            await bluez.call("/org/bluez", AGENT_MANAGER, "RequestDefaultAgent", "o", [agent.PATH])
            self._wanted = (await bluez.get(bluez.path, ADAPTER, "Address"), self._wanted[-1])
        except AdapterError:
            await bluez.close()
            raise
        self._bluez = bluez
        return bluez.gone

    async def close(self) -> None:
        """As `Radio.close`."""
        bluez, self._bluez = self._bluez, None
        if bluez:
            await bluez.close()

    async def reset(self) -> None:
        """As `Radio.reset`."""
        await self._open.set(self._open.path, ADAPTER, "Powered", Variant("b", False))  # noqa: FBT003 - D-Bus boolean

    @property
    def _open(self) -> BlueZ:
        if self._bluez is None:
            raise AdapterError(f"{self._adapter}: is not in use")
        return self._bluez

    @asynccontextmanager
    async def scan(self, on_heard: OnHeard) -> AsyncIterator[None]:
        """As `Radio.scan`."""

        def detected(device: BLEDevice, data: AdvertisementData) -> None:
            on_heard(Heard.of(device.address, data))

        scanner = BleakScanner(detected, bluez={"adapter": self._adapter})
        try:
            async with asyncio.timeout(ENDING_S):
                await scanner.start()
        except TimeoutError as error:
            raise AdapterError(f"{self._adapter}: does not begin to listen") from error
        try:
            yield
        finally:
            await end(scanner.stop())

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        """As `Radio.connect`; the search counts towards `timeout_s`.

        BlueZ 5.66 does not say why a link falls. One that comes up and falls again and again, before it can be
        encrypted, is that of a wearable which has lost its bond: `BondError`.
        """
        falls = 0
        enough = asyncio.Event()
        linked = False

        def fell(_client: BleakClient) -> None:
            nonlocal falls
            falls += 1
            if linked:
                on_disconnect()
            elif falls >= _FALLS:
                enough.set()

        async with asyncio.timeout(timeout_s):
            attempt = asyncio.create_task(self._establish(address, timeout_s, fell))
            given_up = asyncio.create_task(enough.wait())
            try:
                await asyncio.wait((attempt, given_up), return_when=asyncio.FIRST_COMPLETED)
                if not attempt.done() and await self.bonded(address):
                    raise BondError(f"{address}: drops every link before it is encrypted; its bond is lost, pair again")
                client = await attempt
            finally:
                given_up.cancel()
                attempt.cancel()
                await end(asyncio.wait((attempt,)))
        linked = True
        if not client.is_connected:
            raise LinkError(f"{address}: the link ended")
        return client

    async def _establish(
        self, address: str, timeout_s: float, on_disconnect: Callable[[BleakClient], None]
    ) -> BleakClient:
        device = await get_device_by_adapter(address, self._adapter)
        if device is None:
            device = await BleakScanner.find_device_by_address(
                address, timeout=timeout_s, bluez={"adapter": self._adapter}
            )
        if device is None:
            raise LinkError(f"{address}: not heard in {timeout_s:g} s")
        return await establish_connection(
            BleakClient,
            device,
            address,
            disconnected_callback=on_disconnect,
            max_attempts=_ATTEMPTS,
            use_services_cache=False,
            bluez={"adapter": self._adapter},
        )

    async def pair(self, client: BleakClient) -> Security:
        """As `Radio.pair`; the adapter bonds only while this runs."""
        bluez = self._open
        path = self._path(client.address)
        await bluez.set(bluez.path, ADAPTER, "Pairable", Variant("b", True))  # noqa: FBT003 - a D-Bus boolean
        try:
            await bluez.call(path, DEVICE, "Pair", timeout_s=_PAIR_S)
        except CallError as error:
            raise PairingError(f"{client.address}: pairing failed: {error}") from error
        finally:
            with suppress(AdapterError):  # then it has gone, and `open` sets it again
                await bluez.set(bluez.path, ADAPTER, "Pairable", Variant("b", False))  # noqa: FBT003 - same
        mark = f"{_MARK}{secrets.token_hex(8)}"
        await bluez.set(path, DEVICE, "Alias", Variant("s", mark))
        return await self.security(client)

    async def unpair(self, address: str) -> None:
        """As `Radio.unpair`."""
        with suppress(CallError):  # BlueZ does not know it: nothing to forget
            await self._open.call(self._open.path, ADAPTER, "RemoveDevice", "o", [self._path(address)])

    async def bonded(self, address: str) -> bool:
        """As `Radio.bonded`. Raises `AdapterError` while BlueZ cannot tell, so that no bond is thought lost."""
        bluez = self._open
        await bluez.get(bluez.path, ADAPTER, "Powered")
        try:
            return bool(await bluez.get(self._path(address), DEVICE, "Bonded"))
        except CallError:
            return False

    async def bond_mark(self, address: str) -> str:
        """As `Radio.bond_mark`: the alias that `pair` gave it; BlueZ forgets that together with the bond."""
        alias = str(await self._open.get(self._path(address), DEVICE, "Alias"))
        return alias if alias.startswith(_MARK) else ""

    async def security(self, client: BleakClient) -> Security:
        """As `Radio.security`: BlueZ encrypts whatever is bonded, and knows no more."""
        return Security.AUTHENTICATED if await self.bonded(client.address) else Security.NONE

    def _path(self, address: str) -> str:
        return f"{self._open.path}/dev_{address.replace(':', '_')}"
