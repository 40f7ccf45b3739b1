"""A virtual wearable's common part: a static address, a secure GATT server, and a ledger of what it measured.

Every value and every subscription demands a link that is encrypted under an authenticated key (any key, if it has
neither display nor buttons); anything less is ATT error 0x05. Subscriptions are forgotten when a link ends, as the Core
specification asks of clients without a bond and as cautious wearables do for all.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar

from bumble.att import (
    ATT_INSUFFICIENT_AUTHENTICATION_ERROR,
    ATT_Error,
    Attribute,
    AttributeValue,
    AttributeValueV2,
    Bearer,
)
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.gatt import (
    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
    Characteristic,
    Descriptor,
    Service,
)
from bumble.hci import Address
from bumble.host import Host
from bumble.keys import MemoryKeyStore, PairingKeys
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink

from gateway.lab.air import VirtualController
from gateway.lab.pairing import Wearer

GATEWAY_ADDRESS = "F0:00:00:00:00:99"
_ZONE = timezone(timedelta(hours=1))
"""The wearables' local time; what has no zone on the air is told in it."""
_NO_ACCESS = Attribute.Permissions(0)

Read = Callable[[], bytes]
Write = Callable[[Connection, bytes], None]


def wall_clock_ms() -> int:
    """UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class LedgerWriter:
    """What the wearables did, one JSON object a line, each line flushed before the value goes on the air.

    `now_ms` is the true time, which wearables live by and may be wrong about.
    """

    def __init__(self, path: Path, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._file = path.open("a", encoding="utf-8")
        self.now_ms = now_ms

    def now(self) -> datetime:
        """The true time, as the wearables' zone tells it."""
        return datetime.fromtimestamp(self.now_ms() / 1000, _ZONE)

    def measured(
        self,
        device: str,
        *,
        characteristic: int,
        kind: str,
        values: Mapping[int, str],
        sent_ms: int,
        session: str | None = None,
        sequence: int | None = None,
        linked: bool = False,
        stored: bool = False,
        backlog: bool = False,
    ) -> None:
        """One measurement.

        `values` are texts in canonical units by metric code; `linked`: a subscribed link could carry it; `stored`: the
        wearable keeps it and gives it again on request; `backlog`: it was measured before this process began.
        """
        self._write(
            {
                "device": device,
                "characteristic": characteristic,
                "kind": kind,
                "session": session,
                "sequence": sequence,
                "values": {str(code): text for code, text in values.items()},
                "sent_ms": sent_ms,
                "linked": linked,
                "stored": stored,
                "backlog": backlog,
            }
        )

    def link(self, device: str, *, up: bool) -> None:
        """A link came or went."""
        self._write({"event": "link", "device": device, "up": up, "t_ms": self.now_ms()})

    def _write(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """No more lines."""
        self._file.close()


class Peripheral:
    """A virtual wearable; its profile adds services and says when it measures."""

    ADVERTISING_INTERVAL_MS: ClassVar = 20.0

    def __init__(self, link: LocalLink, *, name: str, address: str, service: int, ledger: LedgerWriter) -> None:
        self.address = address
        self._ledger = ledger
        self._service = service
        controller = VirtualController(name, link)
        configuration = DeviceConfiguration(
            name=name,
            address=Address(address),
            advertising_interval_min=self.ADVERTISING_INTERVAL_MS,
            advertising_interval_max=self.ADVERTISING_INTERVAL_MS,
        )
        self.device = Device(config=configuration, host=Host(controller, AsyncPipeSink(controller)))
        self.keys = self.device.keystore = MemoryKeyStore()
        self.wearer = Wearer()
        """Its display and keys; another may take its place before pairing."""
        self.device.pairing_config_factory = lambda connection: self.wearer.secure(connection)  # noqa: PLW0108 - late
        self.serial = address.replace(":", "")
        self.battery_pct = 80
        self.device.on(Device.EVENT_CONNECTION, self._on_connection)

    def tell_about_itself(self) -> None:
        """Device information and battery, for anybody to read."""
        self.add_service(
            0x180A,
            _public(0x2A29, lambda: b"iomt-gateway"),
            _public(0x2A24, self.device.name.encode),
            _public(0x2A25, lambda: self.serial.encode()),  # noqa: PLW0108 - it may change
            _public(0x2A26, lambda: b"1"),
        )
        self.add_service(0x180F, _public(0x2A19, lambda: bytes([self.battery_pct])))

    async def take_bond(self, keys: PairingKeys) -> None:
        """Know the gateway already."""
        await self.keys.update(GATEWAY_ADDRESS, keys)

    async def start(self) -> None:
        """Come on the air."""
        await self.device.power_on()
        await self.come()

    async def come(self) -> None:
        """Come within reach: advertise, now and after every link."""
        advertisement = AdvertisingData(
            [
                (AdvertisingData.FLAGS, b"\x06"),
                (
                    AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
                    self._service.to_bytes(2, "little"),
                ),
                (AdvertisingData.COMPLETE_LOCAL_NAME, self.device.name.encode()),
            ]
        )
        await self.device.start_advertising(auto_restart=True, advertising_data=bytes(advertisement))

    async def stop(self) -> None:
        """Leave the air for good."""
        await self.device.power_off()

    async def leave(self) -> None:
        """Go out of reach: no link, and nobody hears it."""
        await self.device.stop_advertising()
        await self.drop()

    async def drop(self) -> None:
        """End every link, as if carried out of reach for a moment."""
        for connection in list(self.device.connections.values()):
            await connection.disconnect()

    async def forget_bonds(self) -> None:
        """Lose all keys, as after a factory reset."""
        await self.keys.delete_all()

    def add_service(self, uuid: int, *characteristics: Characteristic[bytes]) -> None:
        """Serve a 16-bit service."""
        self.device.add_service(Service(UUID.from_16_bits(uuid), list(characteristics)))

    def readable(self, uuid: int, read: Read) -> Characteristic[bytes]:
        """A characteristic whose value `read` makes."""

        async def guarded(connection: Connection) -> bytes:
            await self._demand_security(connection)
            return read()

        return Characteristic(
            UUID.from_16_bits(uuid), Characteristic.Properties.READ, Attribute.READABLE, AttributeValue(read=guarded)
        )

    def notifying(self, uuid: int) -> Characteristic[bytes]:
        """A characteristic that notifies subscribers."""
        return self._subscribable(uuid, Characteristic.Properties.NOTIFY)

    def indicating(self, uuid: int) -> Characteristic[bytes]:
        """A characteristic that indicates to subscribers."""
        return self._subscribable(uuid, Characteristic.Properties.INDICATE)

    def control_point(self, uuid: int, write: Write) -> Characteristic[bytes]:
        """A characteristic that takes commands by writes, which `write` may refuse, and answers by indications."""

        async def guarded(connection: Connection, value: bytes) -> None:
            await self._demand_security(connection)
            write(connection, value)

        properties = Characteristic.Properties.WRITE | Characteristic.Properties.INDICATE
        return self._subscribable(uuid, properties, Attribute.WRITEABLE, AttributeValue(write=guarded))

    def _subscribable(
        self,
        uuid: int,
        properties: Characteristic.Properties,
        permissions: Attribute.Permissions = _NO_ACCESS,
        value: AttributeValue[bytes] | None = None,
    ) -> Characteristic[bytes]:
        """Bumble adds a descriptor that lets anybody subscribe unless the characteristic brings its own."""
        characteristic: Characteristic[bytes] = Characteristic(UUID.from_16_bits(uuid), properties, permissions, value)
        server = self.device.gatt_server

        async def read(bearer: Bearer) -> bytes:
            await self._demand_security(bearer)
            return server.read_cccd(bearer, characteristic)

        async def write(bearer: Bearer, bits: bytes) -> None:
            await self._demand_security(bearer)
            server.write_cccd(bearer, characteristic, bits)

        descriptor: Descriptor = Descriptor(
            GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
            Attribute.READABLE | Attribute.WRITEABLE,
            AttributeValueV2(read=read, write=write),
        )
        characteristic.descriptors = [descriptor]
        return characteristic

    async def _demand_security(self, bearer: Bearer) -> None:
        """Any encryption sets bumble's `authenticated`, "Just Works" too; only the stored key tells the truth."""
        connection = bearer if isinstance(bearer, Connection) else bearer.connection
        keys = await self.keys.get(str(connection.peer_address))
        enough = keys and keys.ltk and (keys.ltk.authenticated or not self.wearer.authenticates)
        if not (connection.encryption and enough):
            raise ATT_Error(ATT_INSUFFICIENT_AUTHENTICATION_ERROR)

    def subscribers(self, characteristic: Characteristic[bytes]) -> list[Connection]:
        """Links that are encrypted and subscribed to `characteristic`."""
        return [
            connection
            for connection in self.device.connections.values()
            if connection.encryption and any(self.device.gatt_server.read_cccd(connection, characteristic)[:1])
        ]

    async def notify(self, characteristic: Characteristic[bytes], value: bytes) -> None:
        """Send `value` to every subscriber, unconfirmed."""
        for connection in self.subscribers(characteristic):
            await self.notify_one(connection, characteristic, value)

    async def notify_one(self, connection: Connection, characteristic: Characteristic[bytes], value: bytes) -> None:
        """Send `value` on one link if it is subscribed, unconfirmed."""
        await self.device.notify_subscriber(connection, characteristic, value)

    async def indicate(self, connection: Connection, characteristic: Characteristic[bytes], value: bytes) -> bool:
        """Send `value` on one link; returns whether it was confirmed before the link ended."""
        waiting = asyncio.current_task()
        try:
            await connection.cancel_on_disconnection(
                asyncio.ensure_future(self.device.indicate_subscriber(connection, characteristic, value))
            )
        except asyncio.CancelledError:
            if waiting and waiting.cancelling():
                raise
            return False
        except TimeoutError:  # ATT knows no way on but a new link (Core specification 3.F.3.3.3)
            await connection.disconnect()
            return False
        return True

    def _on_connection(self, connection: Connection) -> None:
        self._ledger.link(self.address, up=True)
        connection.on(Connection.EVENT_DISCONNECTION, lambda _reason: self._ledger.link(self.address, up=False))


def _public(uuid: int, read: Read) -> Characteristic[bytes]:
    """A characteristic that anybody may read."""
    value: AttributeValue[bytes] = AttributeValue(read=lambda _connection: read())
    return Characteristic(UUID.from_16_bits(uuid), Characteristic.Properties.READ, Attribute.READABLE, value)
