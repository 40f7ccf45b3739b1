"""The system bus and BlueZ on it: calls whose failures say what to do, and when the adapter has gone."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from dbus_fast import BusType, DBusFastError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface

from gateway.errors import AdapterError

BLUEZ = "org.bluez"
ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
AGENT_MANAGER = "org.bluez.AgentManager1"

_BUS = "org.freedesktop.DBus"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
_CALL_S = 10.0

_WAYS_OUT = {
    f"{_BUS}.Error.ServiceUnknown": "bluetoothd does not run: systemctl status bluetooth",
    f"{_BUS}.Error.NameHasNoOwner": "bluetoothd does not run: systemctl status bluetooth",
    f"{_BUS}.Error.UnknownObject": "there is no such adapter: is it plugged in?",
    f"{_BUS}.Error.UnknownMethod": "there is no such adapter: is it plugged in?",
    f"{_BUS}.Error.AccessDenied": "D-Bus denies it: add this user to the group bluetooth",
    "org.bluez.Error.Blocked": "the adapter is blocked: rfkill unblock bluetooth",
}


class CallError(AdapterError):
    """BlueZ or the bus answered a call with an error; `name` is D-Bus' name of it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class BlueZ:
    """One connection to the system bus, which watches one adapter; `gone` is done when that can no longer be used."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.path = ""
        """The adapter's."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._disconnected(), name="D-Bus")

    @classmethod
    async def connect(cls, *adapters: str) -> Self:
        """Take the first of `adapters`, names or addresses, that is there. Raises `AdapterError`."""
        bus = MessageBus(bus_type=BusType.SYSTEM)
        try:
            async with asyncio.timeout(_CALL_S):
                await bus.connect()
        except (OSError, EOFError, TimeoutError, DBusFastError) as error:
            bus.disconnect()
            raise AdapterError(f"{adapters[-1]}: D-Bus does not answer: {error}; is dbus running?") from error
        bluez = cls(bus)
        bus.add_message_handler(bluez._on_message)
        try:
            await bluez._take(adapters)
        except AdapterError:
            await bluez.close()
            raise
        return bluez

    async def _take(self, adapters: Sequence[str]) -> None:
        [objects] = await self.call("/", _OBJECT_MANAGER, "GetManagedObjects")
        for adapter in adapters:
            for path, interfaces in objects.items():
                if ADAPTER in interfaces and adapter in (path.rpartition("/")[2], interfaces[ADAPTER]["Address"].value):
                    await self._watch_over(path)
                    return
        raise AdapterError(f"{adapters[-1]}: there is no such adapter: is it plugged in?")

    async def _watch_over(self, path: str) -> None:
        self.path = path
        for rule in (
            f"interface='{_BUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
            f"interface='{_OBJECT_MANAGER}',member='InterfacesRemoved',sender='{BLUEZ}'",
            f"interface='{_PROPERTIES}',member='PropertiesChanged',path='{path}',sender='{BLUEZ}'",
        ):
            await self.call("/org/freedesktop/DBus", _BUS, "AddMatch", "s", [rule], to=_BUS)

    async def close(self) -> None:
        """Leave the bus."""
        self._watch.cancel()
        await asyncio.wait([self._watch])
        self._bus.disconnect()

    def export(self, path: str, interface: ServiceInterface) -> None:
        """Offer `interface` to BlueZ."""
        self._bus.export(path, interface)

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[Any] = (),
        *,
        timeout_s: float = _CALL_S,
        to: str = BLUEZ,
    ) -> list[Any]:
        """The answer's body. Raises `AdapterError`; a `CallError` if there was an answer and it is an error."""
        message = Message(
            destination=to, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        name = path.rpartition("/")[2]
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._bus.call(message)
        except TimeoutError as error:
            raise AdapterError(f"{name}: bluetoothd did not answer {member} in {timeout_s:g} s") from error
        except (OSError, EOFError, DBusFastError) as error:
            raise AdapterError(f"{name}: D-Bus has gone: {error}") from error
        if reply.message_type is MessageType.ERROR:
            told = " ".join(map(str, reply.body))
            raise CallError(reply.error_name or "", f"{name}: {_WAYS_OUT.get(reply.error_name or '', told)}")
        return reply.body

    async def get(self, path: str, interface: str, name: str) -> Any:  # noqa: ANN401 - a D-Bus value
        """A property. Raises `AdapterError`."""
        [value] = await self.call(path, _PROPERTIES, "Get", "ss", [interface, name])
        return value.value

    async def set(self, path: str, interface: str, name: str, value: Variant) -> None:
        """Change a property. Raises `AdapterError`."""
        await self.call(path, _PROPERTIES, "Set", "ssv", [interface, name, value])

    async def _disconnected(self) -> None:
        with suppress(OSError, EOFError, DBusFastError):  # the same end, said differently
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # it is not annotated
        self._end()

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        match message.member, message.body:
            case "NameOwnerChanged", [name, _, _] if name == BLUEZ:
                self._end()
            case "InterfacesRemoved", [path, interfaces] if path == self.path and ADAPTER in interfaces:
                self._end()
            case "PropertiesChanged", [interface, {"Powered": powered}, _] if interface == ADAPTER:
                if message.path == self.path and not powered.value:
                    self._end()

    def _end(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
