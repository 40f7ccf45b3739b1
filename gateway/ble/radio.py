"""What the gateway needs of a radio, and the real one: BlueZ through bleak."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bleak import BleakClient, BleakScanner
from bleak_retry_connector import establish_connection
from bleak_retry_connector.bluez import get_device_by_adapter

from gateway.errors import LinkError


class Radio(Protocol):
    """Makes links to wearables and knows what they are worth."""

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the radio has gone for good."""

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        """Connect, encrypt if bonded, discover services; one attempt at a time.

        Raises `LinkError`, `bleak.exc.BleakError` or `TimeoutError`.
        """

    async def pair(self, client: BleakClient) -> None:
        """Make an authenticated bond. Raises `LinkError` or `bleak.exc.BleakError`."""

    async def bonded(self, address: str) -> bool:
        """Whether the keys of an earlier pairing are kept."""

    async def authenticated(self, client: BleakClient) -> bool:
        """Whether this link is encrypted under a bond that a man in the middle could not have made."""


class BluezRadio:
    """A Bluetooth adapter under BlueZ.

    Without a pairing agent of our own BlueZ would pair by "Just Works", which anybody in the middle can do, and it does
    not tell how a bond was made. So this radio never pairs; it uses bonds that a person made with `bluetoothctl` by
    passkey or numeric comparison, and takes them at that person's word.
    """

    def __init__(self, adapter: str) -> None:
        self._adapter = adapter
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        """As `Radio.connect`; the search counts towards `timeout_s`."""
        async with asyncio.timeout(timeout_s):
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
                disconnected_callback=lambda _client: on_disconnect(),
                bluez={"adapter": self._adapter},
            )

    async def pair(self, client: BleakClient) -> None:
        """Refuse."""
        raise LinkError(f"{client.address}: not paired; pair it with bluetoothctl by passkey or numeric comparison")

    async def bonded(self, address: str) -> bool:
        """Whether BlueZ keeps a bond."""
        device = await get_device_by_adapter(address, self._adapter)
        return device is not None and bool(device.details.get("props", {}).get("Bonded"))

    async def authenticated(self, client: BleakClient) -> bool:
        """Whether BlueZ keeps a bond; see the class for what that is worth."""
        return await self.bonded(client.address)
