"""BlueZ's pairing agent (org.bluez.Agent1), thin: each question goes to `ask`, each "no" back to BlueZ.

BlueZ asks RequestConfirmation for numeric comparison, RequestPasskey and DisplayPasskey for passkey entry, and
RequestAuthorization for a "Just Works" that a peer began; one that this side began it does not ask about at all.
"""

from dbus_fast import DBusError
from dbus_fast.annotations import DBusObjectPath, DBusStr, DBusUInt16, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method

from gateway.ble.pairing import Method, Prompt
from gateway.ble.radio import Ask
from gateway.errors import PairingError

PATH = "/org/iomt/gateway/agent"
CAPABILITY = "KeyboardDisplay"


def address_of(path: str) -> str:
    """The address in a device's object path."""
    return path.rpartition("/dev_")[2].replace("_", ":")


class Agent(ServiceInterface):
    """Answers BlueZ on behalf of the person who pairs."""

    def __init__(self, ask: Ask) -> None:
        super().__init__("org.bluez.Agent1")
        self._put = ask

    async def _ask(self, device: str, method: Method, number: int | None = None) -> int:
        try:
            return await self._put(Prompt(address_of(device), method, number))
        except PairingError as error:
            raise DBusError("org.bluez.Error.Rejected", str(error)) from error

    @dbus_method()
    async def RequestConfirmation(self, device: DBusObjectPath, passkey: DBusUInt32) -> None:  # noqa: N802
        """Numeric comparison."""
        await self._ask(device, Method.COMPARE, passkey)

    @dbus_method()
    async def RequestPasskey(self, device: DBusObjectPath) -> DBusUInt32:  # noqa: N802
        """The wearable shows, the person types here."""
        return await self._ask(device, Method.ENTER)

    @dbus_method()
    async def DisplayPasskey(self, device: DBusObjectPath, passkey: DBusUInt32, entered: DBusUInt16) -> None:  # noqa: N802
        """The person types on the wearable; BlueZ says it again for every digit that was typed."""
        if entered == 0:
            await self._ask(device, Method.SHOW, passkey)

    @dbus_method()
    async def RequestAuthorization(self, device: DBusObjectPath) -> None:  # noqa: N802
        """Just Works, begun by the peer."""
        await self._ask(device, Method.JUST_WORKS)

    @dbus_method()
    def RequestPinCode(self, device: DBusObjectPath) -> DBusStr:  # noqa: N802
        """BR/EDR's legacy pairing: never."""
        raise DBusError("org.bluez.Error.Rejected", f"{address_of(device)}: PIN codes are not accepted")

    @dbus_method()
    def DisplayPinCode(self, device: DBusObjectPath, pincode: DBusStr) -> None:  # noqa: N802
        """BR/EDR's legacy pairing: never."""
        del pincode
        raise DBusError("org.bluez.Error.Rejected", f"{address_of(device)}: PIN codes are not accepted")

    @dbus_method()
    def AuthorizeService(self, device: DBusObjectPath, uuid: DBusStr) -> None:  # noqa: N802
        """A peer that would use a service of ours: there is none."""
        raise DBusError("org.bluez.Error.Rejected", f"{address_of(device)}: no service {uuid} for anybody")

    @dbus_method()
    def Cancel(self) -> None:  # noqa: N802
        """BlueZ gave up waiting; the pairing call says so too."""

    @dbus_method()
    def Release(self) -> None:  # noqa: N802
        """BlueZ ends."""
