"""What the gateway needs of a radio; the real one is `bluez.BluezRadio`."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from bleak import BleakClient
from bleak.backends.scanner import AdvertisementData

from gateway.ble.makers import maker
from gateway.ble.pairing import Prompt, Security

ENDING_S = 5.0
_SIG_UUID = "-0000-1000-8000-00805f9b34fb"

Ask = Callable[[Prompt], Awaitable[int]]
"""Puts a question to the person who pairs: the passkey for `Method.ENTER`, else any number for "yes".

Raises `PairingError` for "no".
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """One advertisement."""

    address: str
    name: str | None
    services: frozenset[int]
    """16-bit UUIDs."""
    rssi_dbm: int
    make: str | None = None
    """Whose data it carries, if that is a maker of health devices."""

    @classmethod
    def of(cls, address: str, data: AdvertisementData) -> "Heard":
        """From bleak's."""
        services = frozenset(int(uuid[4:8], 16) for uuid in data.service_uuids if uuid.endswith(_SIG_UUID))
        return cls(address, data.local_name, services, data.rssi, maker(data.manufacturer_data))


OnHeard = Callable[[Heard], None]


class Radio(Protocol):
    """Makes links to wearables and knows what they are worth."""

    async def open(self, ask: Ask) -> asyncio.Future[None]:
        """Take the adapter into use; who wants to pair is judged by `ask`.

        Returns a future that is done when the adapter has gone. Raises `AdapterError` that says what is missing.
        """

    async def close(self) -> None:
        """Let go of the adapter; `open` may be called again."""

    async def reset(self) -> None:
        """Switch the adapter off; `open` switches it on. Raises `AdapterError`."""

    def scan(self, on_heard: OnHeard) -> AbstractAsyncContextManager[object]:
        """Listen while entered. Entering raises `bleak.exc.BleakError`."""

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        """Connect, encrypt if bonded, discover services; one attempt at a time.

        Raises `LinkError`, `bleak.exc.BleakError` or `TimeoutError`.
        """

    async def pair(self, client: BleakClient) -> Security:
        """Make a bond; returns the most it can be worth. Raises `PairingError` or `bleak.exc.BleakError`."""

    async def unpair(self, address: str) -> None:
        """Forget the keys of `address`, if there are any, and end its link. Raises `bleak.exc.BleakError`."""

    async def bonded(self, address: str) -> bool:
        """Whether the keys of an earlier pairing are kept."""

    async def bond_mark(self, address: str) -> str:
        """Tells the bond that is kept from every other with `address`; "" if it was not made by `pair`."""

    async def security(self, client: BleakClient) -> Security:
        """The most this link can be worth; what its pairing was worth bounds it too."""


async def end(work: Coroutine[Any, Any, object]) -> None:
    """Do what ends something that nobody needs any more, for at most 5 s, and whatever comes of it.

    On a bus that has died bleak's own endings may wait for ever, and cannot be cancelled.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_let_go)
    await asyncio.wait((task,), timeout=ENDING_S)


def _let_go(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
