"""The real stack in the guest: D-Bus, bluetoothd and the kernel's Bluetooth over a virtual controller."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from bumble.core import PhysicalTransport
from bumble.hci import Address, LeFeatureMask
from bumble.link import LocalLink
from bumble.transport import open_transport

from gateway.lab.air import VirtualController

if TYPE_CHECKING:
    from bumble.transport.common import Transport

BLUETOOTHD = "/usr/libexec/bluetooth/bluetoothd"
ADAPTER_ADDRESS = "00:AA:01:00:00:42"
MAIN_CONF = Path("/etc/bluetooth/main.conf")


class Link(LocalLink):
    """bumble's air; BlueZ speaks under its public address, which the original takes for the random one."""

    def send_acl_data(self, sender_controller, destination_address, transport, data) -> None:  # noqa: ANN001
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if transport is PhysicalTransport.LE and connection and receiver:
            loop = asyncio.get_running_loop()
            loop.call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)


class KernelController(VirtualController):
    """The controller that the kernel drives through /dev/vhci."""

    def __init__(self, link: LocalLink, address: str = ADAPTER_ADDRESS) -> None:
        super().__init__("kernel", link)
        self._public_address = Address(address, Address.PUBLIC_DEVICE_ADDRESS)
        self.random_address = Address("C0:00:00:00:00:42")
        # It tells of connections by the old event; a kernel that sees these features waits for the new one.
        self.le_features &= ~(
            LeFeatureMask.LL_PRIVACY | LeFeatureMask.LE_EXTENDED_ADVERTISING | LeFeatureMask.LE_PERIODIC_ADVERTISING
        )
        self._connecting = False

    def create_le_connection(self, peer_address: Address) -> None:
        """A real radio takes a while, in which the kernel hears that its command was taken."""
        if not self._connecting:
            self._connecting = True
            asyncio.get_running_loop().call_later(0.05, self._connect, peer_address)

    def _connect(self, peer_address: Address) -> None:
        self._connecting = False
        if self.pending_le_connection:
            super().create_le_connection(peer_address)


class Stack:
    """D-Bus, bluetoothd and an adapter, each of which can go away and come back."""

    def __init__(self) -> None:
        self.link = Link()
        self.controller: KernelController | None = None
        self._dbus: asyncio.subprocess.Process | None = None
        self._bluetoothd: asyncio.subprocess.Process | None = None
        self._another: Transport | None = None

    async def start_dbus(self) -> None:
        Path("/run/dbus").mkdir(exist_ok=True)
        Path("/run/dbus/pid").unlink(missing_ok=True)
        self._dbus = await asyncio.create_subprocess_exec(
            "dbus-daemon", "--system", "--nofork", "--nopidfile", stdin=asyncio.subprocess.DEVNULL
        )
        while not Path("/run/dbus/system_bus_socket").is_socket():  # noqa: ASYNC110 - a file knows no event
            await asyncio.sleep(0.05)

    async def stop_dbus(self) -> None:
        await _end(self._dbus)
        Path("/run/dbus/system_bus_socket").unlink(missing_ok=True)

    async def start_bluetoothd(self, *options: str) -> None:
        self._bluetoothd = await asyncio.create_subprocess_exec(
            BLUETOOTHD, "--nodetach", *options, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )

    async def stop_bluetoothd(self) -> None:
        await _end(self._bluetoothd)

    async def plug_another(self) -> None:
        """An adapter that hears nobody; it takes the first name that is free."""
        controller = KernelController(Link(), "00:AA:01:00:00:43")
        self._another = await open_transport("vhci")
        controller.set_packet_sink(self._another.sink)
        self._another.source.set_packet_sink(controller)
        while not Path("/sys/class/bluetooth/hci0").exists():  # noqa: ASYNC110 - a file knows no event
            await asyncio.sleep(0.05)

    async def plug(self) -> None:
        self._transport = await open_transport("vhci")
        self.controller = KernelController(self.link)
        self.controller.set_packet_sink(self._transport.sink)
        self._transport.source.set_packet_sink(self.controller)

    async def unplug(self) -> None:
        controller, self.controller = self.controller, None
        if controller:
            controller.end_links()
            self.link.remove_controller(controller)
            controller.set_packet_sink(None)
            await self._transport.close()

    async def close(self) -> None:
        await self.unplug()
        if self._another:
            await self._another.close()
        await self.stop_bluetoothd()
        await self.stop_dbus()


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
