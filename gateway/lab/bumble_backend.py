"""bleak's client and scanner over a bumble host: real GATT, ATT, SMP and L2CAP on a virtual controller.

`BleakClient(address, backend=BumbleClient, host=device)` and `BleakScanner(backend=BumbleScanner, host=device)` behave
as on BlueZ: a bonded link is encrypted while connecting, services are discovered, a lost link is a `BleakError`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar
from uuid import UUID

from bleak.args import SizedBuffer
from bleak.assigned_numbers import gatt_char_props_to_strs
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakDeviceNotFoundError, BleakError, BleakGATTProtocolError
from bumble import core
from bumble.att import ATT_Error
from bumble.core import AdvertisingData, BaseBumbleError
from bumble.device import Advertisement, Connection, Device, Peer
from typing_extensions import override

T = TypeVar("T")

_MTU = 517
_STOP_S = 5.0


def _uuid(uuid: core.UUID) -> str:
    return str(UUID(bytes=uuid.to_bytes(force_128=True)[::-1]))


def _retrieved(work: asyncio.Task[Any]) -> None:
    """Nobody may be left to hear of an error on a link that has ended."""
    if not work.cancelled():
        work.exception()


async def _translated(address: str, awaitable: Awaitable[T]) -> T:
    """Wait, with bumble's errors as bleak's.

    Bumble cancels whatever waits on a link or radio that ends, which would silently end the waiting task, and
    loses cancellations that come together with an answer.
    """
    waiting = asyncio.current_task()
    try:
        answer = await awaitable
    except ATT_Error as error:
        raise BleakGATTProtocolError(error.error_code) from error
    except core.TimeoutError as error:
        raise BleakDeviceNotFoundError(address, f"{address}: does not answer") from error
    except BaseBumbleError as error:
        raise BleakError(f"{address}: {error}") from error
    except asyncio.CancelledError:
        if waiting and waiting.cancelling():
            raise
        raise BleakError(f"{address}: the link ended") from None
    if waiting and waiting.cancelling():
        raise asyncio.CancelledError
    return answer


class BumbleClient(BaseBleakClient):
    """One link to a peripheral."""

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        *,
        disconnected_callback: Callable[[], None] | None,
        timeout: float,
        host: Device,
        **_other_backends: object,
    ) -> None:
        super().__init__(address_or_ble_device, disconnected_callback=disconnected_callback, timeout=timeout)
        self._host = host
        self._peer: Peer | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._works: set[asyncio.Task[Any]] = set()

    @property
    @override
    def name(self) -> str:
        return self.address.replace(":", "-")

    @property
    @override
    def mtu_size(self) -> int:
        return self._peer.connection.att_mtu if self._peer else 23

    @property
    @override
    def is_connected(self) -> bool:
        return self._peer is not None

    @property
    def encrypted(self) -> bool:
        """Whether the link is encrypted now."""
        return self._peer is not None and bool(self._peer.connection.encryption)

    @override
    async def connect(self, pair: bool, **_kwargs: object) -> None:
        if self._peer:
            raise BleakError(f"{self.address}: already connected")
        connecting = asyncio.create_task(
            _translated(self.address, self._host.connect_le(self.address, timeout=self._timeout))
        )
        try:
            connection = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            await self._call_off(connecting)
            raise
        connection.on(Connection.EVENT_DISCONNECTION, self._on_disconnection)
        self._peer = Peer(connection)
        self._ended = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.disconnect)
            await self._while_connected(self._set_up(self._peer, pair=pair))
            undo.pop_all()

    async def _call_off(self, connecting: asyncio.Task[Connection]) -> None:
        """Bumble forgets an attempt that is cancelled, while the controller goes on with it: end it in order."""
        with suppress(BaseBumbleError):  # it has come about meanwhile
            await self._host.cancel_connection()  # type: ignore[no-untyped-call] # bumble leaves it unannotated
        with suppress(BleakError, BaseBumbleError):
            await (await connecting).disconnect()

    async def _set_up(self, peer: Peer, *, pair: bool) -> None:
        await peer.request_mtu(_MTU)
        if pair or await self._bonded():
            await self._secure(peer.connection)
        self.services = await self._discover(peer)

    async def _bonded(self) -> bool:
        keystore = self._host.keystore
        return keystore is not None and await keystore.get(self.address) is not None

    async def _secure(self, connection: Connection) -> None:
        if await self._bonded():
            if not connection.encryption:
                await connection.encrypt()
        else:
            await connection.pair()

    async def _discover(self, peer: Peer) -> BleakGATTServiceCollection:
        collection = BleakGATTServiceCollection()
        for service in await peer.discover_services():
            found = BleakGATTService(service, service.handle, _uuid(service.uuid))
            collection.add_service(found)
            for item in await service.discover_characteristics():
                properties = list(gatt_char_props_to_strs(item.properties))
                characteristic = BleakGATTCharacteristic(
                    item, item.handle, _uuid(item.uuid), properties, lambda: self.mtu_size - 3, found
                )
                collection.add_characteristic(characteristic)
                for descriptor in await item.discover_descriptors():
                    collection.add_descriptor(
                        BleakGATTDescriptor(descriptor, descriptor.handle, _uuid(descriptor.type), characteristic)
                    )
        return collection

    def _on_disconnection(self, _reason: int) -> None:
        self._peer = self.services = None
        if not self._ended.done():
            self._ended.set_result(None)
        if self._disconnected_callback:
            self._disconnected_callback()

    @override
    async def disconnect(self) -> None:
        if self._peer:
            with suppress(BleakError):  # it has ended meanwhile
                await _translated(self.address, self._peer.connection.disconnect())

    @override
    async def pair(self, *_args: object, **_kwargs: object) -> None:
        peer = self._connected()
        await self._while_connected(self._secure(peer.connection))

    @override
    async def unpair(self) -> None:
        if self._host.keystore and await self._bonded():
            await self._host.keystore.delete(self.address)
        await self.disconnect()

    def _connected(self) -> Peer:
        if self._peer is None:
            raise BleakError(f"{self.address}: not connected")
        return self._peer

    async def _while_connected(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for something on this link, for as long as it lasts.

        Bumble's own `cancel_on_disconnection` is not enough: `asyncio.wait_for`, which it uses below, loses a
        cancellation that comes together with an answer (Python 3.11), and then waits out ATT's 30 s on a dead link.
        What is no longer waited for runs on: an answer to a request that was cancelled would end the radio.
        """
        ended = self._ended
        self._connected()
        work = asyncio.create_task(coroutine)
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        work.add_done_callback(_retrieved)
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            work.cancel()
            raise BleakError(f"{self.address}: the link ended")
        return await _translated(self.address, work)

    @override
    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_kwargs: object
    ) -> bytearray:
        del use_cached
        return bytearray(await self._while_connected(self._connected().gatt_client.read_value(characteristic.obj)))

    @override
    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_kwargs: object
    ) -> bytearray:
        del use_cached
        return bytearray(await self._while_connected(self._connected().gatt_client.read_value(descriptor.obj)))

    @override
    async def write_gatt_char(
        self,
        characteristic: BleakGATTCharacteristic,
        data: SizedBuffer,
        response: bool,
    ) -> None:
        client = self._connected().gatt_client
        await self._while_connected(client.write_value(characteristic.obj, bytes(data), with_response=response))

    @override
    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        client = self._connected().gatt_client
        await self._while_connected(client.write_value(descriptor.obj, bytes(data), with_response=True))

    @override
    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_kwargs: object
    ) -> None:
        def on_value(value: bytes) -> None:
            callback(bytearray(value))

        await self._while_connected(self._connected().gatt_client.subscribe(characteristic.obj, on_value))

    @override
    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        await self._while_connected(self._connected().gatt_client.unsubscribe(characteristic.obj))


class BumbleScanner(BaseBleakScanner):
    """What advertises nearby."""

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        scanning_mode: str,
        *,
        host: Device,
        **_other_backends: object,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._host = host
        self._active = scanning_mode == "active"

    @override
    async def start(self) -> None:
        self.seen_devices = {}
        self._host.on(Device.EVENT_ADVERTISEMENT, self._on_advertisement)
        await _translated("scan", self._host.start_scanning(active=self._active))

    @override
    async def stop(self) -> None:
        self._host.remove_listener(Device.EVENT_ADVERTISEMENT, self._on_advertisement)
        try:
            async with asyncio.timeout(_STOP_S):
                await _translated("scan", self._host.stop_scanning())
        except TimeoutError as error:
            raise BleakError("the radio does not answer") from error

    def _on_advertisement(self, advertisement: Advertisement) -> None:
        data = _advertisement_data(advertisement)
        if not self.is_allowed_uuid(data.service_uuids):
            return
        address = advertisement.address.to_string(with_type_qualifier=False)
        device = self.create_or_update_device(address, address, data.local_name, advertisement.address, data)
        self.call_detection_callbacks(device, data)


def _advertisement_data(advertisement: Advertisement) -> AdvertisementData:
    name: str | None = None
    manufacturers: dict[int, bytes] = {}
    uuids: list[str] = []
    for kind, value in advertisement.data.ad_structures:
        match kind:
            case AdvertisingData.COMPLETE_LOCAL_NAME | AdvertisingData.SHORTENED_LOCAL_NAME:
                name = value.decode(errors="replace")
            case (
                AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS
                | AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS
            ):
                uuids += [_uuid(core.UUID.from_bytes(value[i : i + 2])) for i in range(0, len(value) - 1, 2)]
            case AdvertisingData.MANUFACTURER_SPECIFIC_DATA:
                manufacturers[int.from_bytes(value[:2], "little")] = bytes(value[2:])
    return AdvertisementData(name, manufacturers, {}, uuids, None, advertisement.rssi, (advertisement,))
