"""The gateway's radio where there is none: a bumble host whose controller is on the other end of a Unix socket.

Stands in for BlueZ below `bleak`, so that everything above it is the code that runs on real hardware. Bonds lie in a
file, written through to the disk before a pairing counts.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError
from bumble.core import BaseBumbleError
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.hci import Address, HCI_Error, HCI_ErrorCode
from bumble.pairing import PairingConfig
from bumble.transport import open_transport

from gateway.ble.pairing import Security
from gateway.ble.radio import Ask, Heard, OnHeard
from gateway.errors import AdapterError, BondError, PairingError
from gateway.lab.bonds import BondStore
from gateway.lab.bumble_backend import BumbleClient, BumbleScanner
from gateway.lab.pairing import GatewayDelegate
from gateway.lab.peripheral import GATEWAY_ADDRESS

if TYPE_CHECKING:
    from bumble.transport.common import Transport

_POWER_ON_S = 5.0


def _key_missing(error: BaseException | None) -> bool:
    return isinstance(error, HCI_Error) and error.error_code == HCI_ErrorCode.PIN_OR_KEY_MISSING_ERROR


class VirtualRadio:
    """A `gateway.ble.radio.Radio` whose controller is virtual.

    Its air is the socket at `socket_path`; bonds lie in `keystore`. Raises `ConfigError` if those cannot be read.
    """

    def __init__(self, socket_path: Path, keystore: Path) -> None:
        self._socket_path = socket_path
        self._bonds = BondStore(keystore)
        self._host: Device | None = None
        self._transport: Transport | None = None

    async def open(self, ask: Ask) -> asyncio.Future[None]:
        """As `Radio.open`."""
        try:
            transport = await open_transport(f"unix-client:{self._socket_path}")
        except OSError as error:
            raise AdapterError(f"{self._socket_path}: no virtual radio listens there: {error.strerror}") from error
        configuration = DeviceConfiguration(name="gateway", address=Address(GATEWAY_ADDRESS))
        host = Device.from_config_with_hci(configuration, transport.source, transport.sink)
        host.keystore = self._bonds

        def secure(connection: Connection) -> PairingConfig:
            peer = connection.peer_address.to_string(with_type_qualifier=False)
            return PairingConfig(sc=True, mitm=True, bonding=True, delegate=GatewayDelegate(peer, ask))

        host.pairing_config_factory = secure
        try:
            async with asyncio.timeout(_POWER_ON_S):
                await host.power_on()
        except (TimeoutError, BaseBumbleError, BleakError) as error:
            await transport.close()
            raise AdapterError(f"{self._socket_path}: the virtual controller does not answer") from error
        self._host, self._transport = host, transport
        return transport.source.terminated

    async def close(self) -> None:
        """Leave the air."""
        transport, self._host, self._transport = self._transport, None, None
        if transport:
            await transport.close()

    async def reset(self) -> None:
        """As `Radio.reset`: a socket that closes is a controller that has gone."""
        if self._transport:
            await self._transport.close()

    @property
    def host(self) -> Device:
        """The host while open. Raises `AdapterError` otherwise."""
        if self._host is None:
            raise AdapterError(f"{self._socket_path}: is not in use")
        return self._host

    def scan(self, on_heard: OnHeard) -> AbstractAsyncContextManager[object]:
        """As `Radio.scan`."""

        def detected(device: BLEDevice, data: AdvertisementData) -> None:
            on_heard(Heard.of(device.address, data))

        return BleakScanner(detected, backend=BumbleScanner, host=self.host)

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        """As `Radio.connect`; `BondError` if the wearable has no key for the bond that is kept here."""
        client = BleakClient(
            address,
            disconnected_callback=lambda _client: on_disconnect(),
            timeout=timeout_s,
            backend=BumbleClient,
            host=self.host,
        )
        try:
            await client.connect()
        except BleakError as error:
            if _key_missing(error.__cause__):
                raise BondError(f"{address}: has forgotten its bond; pair it again") from error
            raise
        return client

    async def pair(self, client: BleakClient) -> Security:
        """As `Radio.pair`. Legacy pairing is not accepted."""
        try:
            await client.pair()
        except BleakError as error:
            raise PairingError(f"{client.address}: pairing failed: {error}") from error
        keys = await self._bonds.get(client.address)
        if keys is not None and keys.ltk is None:
            raise PairingError(f"{client.address}: knows no LE Secure Connections")
        return await self.security(client)

    async def unpair(self, address: str) -> None:
        """As `Radio.unpair`."""
        await self._bonds.delete(address)

    async def bonded(self, address: str) -> bool:
        """As `Radio.bonded`."""
        return await self._bonds.get(address) is not None

    async def bond_mark(self, address: str) -> str:
        """As `Radio.bond_mark`: a hash of the key."""
        keys = await self._bonds.get(address)
        return hashlib.sha256(keys.ltk.value).hexdigest()[:16] if keys and keys.ltk else ""

    async def security(self, client: BleakClient) -> Security:
        """As `Radio.security`: bumble tells how a key was made."""
        keys = await self._bonds.get(client.address)
        backend = client._backend  # noqa: SLF001 - bleak has no public way to its backend
        if not (isinstance(backend, BumbleClient) and backend.encrypted and keys and keys.ltk):
            return Security.NONE
        return Security.AUTHENTICATED if keys.ltk.authenticated else Security.ENCRYPTED
