"""The air: virtual Bluetooth controllers that hear each other, and a socket by which a gateway gets one of its own.

A gateway process attaches over a Unix socket that carries HCI, link keys included; the socket therefore lies in a
directory that only its owner may enter. Each attachment gets a fresh controller, and a socket that closes is a radio
that has gone: its links end at once, as the wearables would notice after their supervision timeout.
"""

import asyncio
from pathlib import Path
from typing import Self

from bumble import ll
from bumble.controller import Controller
from bumble.core import InvalidArgumentError, InvalidPacketError
from bumble.hci import (
    HCI_ErrorCode,
    HCI_LE_Connection_Complete_Event,
    HCI_LE_Create_Connection_Cancel_Command,
    HCI_Reset_Command,
    HCI_StatusReturnParameters,
)
from bumble.link import LocalLink
from bumble.transport.common import PacketParser

from gateway.errors import ConfigError

_BACKLOG_BYTES = 1 << 17
"""What a gateway may leave unread before its radio is deemed gone; a stalled process must not grow this one."""
_PRIVATE_MODE = 0o077


class VirtualController(Controller):
    """bumble's controller, with what a real one does on a cancelled connection attempt and on a reset."""

    def __init__(self, name: str, link: LocalLink) -> None:
        # Every party is known by its static random address; no public address may match.
        super().__init__(name, link=link, public_address="00:00:00:00:00:00")

    def on_hci_le_create_connection_cancel_command(
        self, _command: HCI_LE_Create_Connection_Cancel_Command
    ) -> HCI_StatusReturnParameters:
        """Core specification 4.E.7.8.13: the attempt ends, and a Connection Complete event says so."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return HCI_StatusReturnParameters(HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        cancelled = HCI_LE_Connection_Complete_Event(
            status=HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=0,
            peer_address_type=0,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, cancelled)
        return HCI_StatusReturnParameters(HCI_ErrorCode.SUCCESS)

    def on_hci_reset_command(self, command: HCI_Reset_Command) -> HCI_StatusReturnParameters:
        """Core specification 4.E.7.3.2: a reset ends all links."""
        self.end_links()
        return super().on_hci_reset_command(command)

    def end_links(self) -> None:
        """Let every peer see its link time out."""
        self.pending_le_connection, self.le_scan_enable = None, False
        for connection in list(self.le_connections.values()):
            try:
                connection.send_ll_control_pdu(ll.TerminateInd(HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR))
            except InvalidArgumentError:
                continue  # the peer has left the air
        self.le_connections.clear()


class _Attachment(asyncio.Protocol):
    """One HCI connection of a gateway = one controller."""

    def __init__(self, air: "Air") -> None:
        self._air = air
        self._controller: VirtualController | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a Unix stream is one
        self._transport = transport
        self._controller = VirtualController("gateway", self._air.link)
        self._controller.set_packet_sink(self)
        self._parser = PacketParser(self._controller)
        self._air.attach(self)

    def data_received(self, data: bytes) -> None:
        if self._controller is None:
            return
        try:
            self._parser.feed_data(data)
        except InvalidPacketError:
            self.close()

    def on_packet(self, packet: bytes) -> None:
        """What the controller says to its host."""
        if self._controller is None or self._transport.is_closing():
            return
        self._transport.write(packet)
        if self._transport.get_write_buffer_size() > _BACKLOG_BYTES:
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        """Take this gateway's radio off the air."""
        controller, self._controller = self._controller, None
        if controller is None:
            return
        controller.end_links()
        self._air.link.remove_controller(controller)
        controller.set_packet_sink(None)
        self._air.detach(self)
        self._transport.abort()


class Air:
    """All virtual controllers within reach of each other, and at most one attached gateway."""

    def __init__(self) -> None:
        self.link = LocalLink()  # type: ignore[no-untyped-call] # bumble leaves it unannotated
        self._attachment: _Attachment | None = None
        self._server: asyncio.Server | None = None

    async def serve(self, path: Path) -> Self:
        """Let gateways attach at `path`. Raises `ConfigError` if others may enter its directory."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & _PRIVATE_MODE:
            raise ConfigError(f"{path.parent}: others may enter; chmod 700 it, link keys pass through here")
        path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Attachment(self), path)
        return self

    def attach(self, attachment: _Attachment) -> None:
        """A gateway has come; the one before it loses its radio."""
        if self._attachment:
            self._attachment.close()
        self._attachment = attachment

    def detach(self, attachment: _Attachment) -> None:
        """A gateway has gone."""
        if self._attachment is attachment:
            self._attachment = None

    def cut(self) -> None:
        """Take the attached gateway's radio away, as if its adapter had been pulled out."""
        if self._attachment:
            self._attachment.close()

    async def close(self) -> None:
        """Let nobody attach any more."""
        self.cut()
        if self._server:
            self._server.close()
            await self._server.wait_closed()
