"""Both ends of a virtual pairing: the gateway's, which asks a person, and a wearable's, whose display one can read."""

import asyncio

from bumble.device import Connection
from bumble.pairing import PairingConfig, PairingDelegate

from gateway.ble.pairing import Method, Prompt
from gateway.ble.radio import Ask
from gateway.errors import PairingError

# No identity keys are exchanged: everybody here has a static address.
_ENCRYPTION_ONLY = PairingDelegate.KeyDistribution.DISTRIBUTE_ENCRYPTION_KEY


class GatewayDelegate(PairingDelegate):
    """Has a keyboard and a display, by way of `ask`."""

    def __init__(self, address: str, ask: Ask) -> None:
        super().__init__(PairingDelegate.DISPLAY_OUTPUT_AND_KEYBOARD_INPUT, _ENCRYPTION_ONLY, _ENCRYPTION_ONLY)
        self._address = address
        self._put = ask

    async def _ask(self, method: Method, number: int | None = None) -> int | None:
        try:
            return await self._put(Prompt(self._address, method, number))
        except PairingError:
            return None

    async def compare_numbers(self, number: int, digits: int) -> bool:
        """Numeric comparison."""
        del digits
        return await self._ask(Method.COMPARE, number) is not None

    async def get_number(self) -> int | None:
        """Passkey entry: the wearable shows it."""
        return await self._ask(Method.ENTER)

    async def display_number(self, number: int, digits: int) -> None:
        """Passkey entry: the wearable has the keys."""
        del digits
        await self._ask(Method.SHOW, number)

    async def confirm(self, auto: bool = False) -> bool:  # noqa: FBT001, FBT002 - bumble's signature
        """Just Works."""
        del auto
        return await self._ask(Method.JUST_WORKS) is not None


class Wearer(PairingDelegate):
    """A wearable's display and keys, and whoever wears it: says yes, and types what they are told to."""

    def __init__(self, io: PairingDelegate.IoCapability = PairingDelegate.DISPLAY_OUTPUT_AND_YES_NO_INPUT) -> None:
        super().__init__(io, _ENCRYPTION_ONLY, _ENCRYPTION_ONLY)
        self.shown: int | None = None
        """What stands on the display."""
        self._typed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def type(self, number: int | None) -> None:
        """Type `number` on the wearable's keys, or give up."""
        self._typed.set_result(number)

    async def compare_numbers(self, number: int, digits: int) -> bool:
        """Numeric comparison."""
        del digits
        self.shown = number
        return True

    async def get_number(self) -> int | None:
        """The gateway shows a number, and the person types one."""
        return await self._typed

    async def display_number(self, number: int, digits: int) -> None:
        """The person types it at the gateway."""
        del digits
        self.shown = number

    @property
    def authenticates(self) -> bool:
        """Whether it has what it takes for more than "Just Works"."""
        return self.io_capability != PairingDelegate.NO_OUTPUT_NO_INPUT

    def secure(self, _connection: Connection) -> PairingConfig:
        """LE Secure Connections, as strong as this wearable's keys and display allow."""
        return PairingConfig(sc=True, mitm=self.authenticates, bonding=True, delegate=self)
