"""One task per wearable: connect, pair once, make sure the link is authenticated, collect, heal."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial

from bleak import BleakClient
from bleak.exc import BleakError

from gateway.ble.collector import Backfill, Collector, OnError, Sink
from gateway.ble.inventory import Device, Inventory
from gateway.ble.profiles import PROFILES
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.radio import Radio
from gateway.clock.book import ClockBook
from gateway.clock.system import Clock
from gateway.config import BleSection
from gateway.errors import BondError, DeviceError, LinkError
from gateway.model import Cursor

OnEvent = Callable[[str, str], None]

_FIRST_RETRY_S = 0.25
_DISCONNECT_S = 5.0


class LinkState(Enum):
    """Where a wearable's link stands."""

    DOWN = "link-down"
    UP = "link-up"
    BOND_LOST = "bond-lost"


class Links:
    """The links to all wearables of the inventory.

    `cursors` are those that are durable; `sink` takes (stream, readings, cursor): what it is given together must become
    durable together. `on_event` takes (code, address) with codes "link-up", "link-down", "paired" and "bond-lost";
    `on_error` takes each `DeviceError`, after which the rest goes on.
    """

    def __init__(
        self,
        radio: Radio,
        inventory: Inventory,
        config: BleSection,
        cursors: Mapping[str, Cursor],
        *,
        sink: Sink,
        on_event: OnEvent,
        on_error: OnError,
        clock: Clock,
        book: ClockBook,
    ) -> None:
        self._radio = radio
        self._inventory = inventory
        self._config = config
        self._cursors: dict[str, Cursor | None] = dict(cursors)
        self._sink = sink
        self._on_event = on_event
        self._on_error = on_error
        self._clock = clock
        self._book = book
        self._connecting = asyncio.Lock()
        self.states = {device.address: LinkState.DOWN for device in inventory.devices}
        """Link state by address, for the control API."""
        self.backfills = dict.fromkeys(self.states, Backfill.OPEN)
        """By address, whether all that the wearable stores is here."""

    async def run(self) -> None:
        """Serve forever. Raises an `ExceptionGroup` with a `LinkError` when the radio itself has gone."""
        async with asyncio.TaskGroup() as group:
            for device in self._inventory.devices:
                group.create_task(self._serve(device), name=f"link {device.address}")
            await asyncio.shield(self._radio.lost)
            raise LinkError("the radio has gone")

    async def _serve(self, device: Device) -> None:
        """Keep one wearable linked; the pause between attempts doubles, jittered, until one succeeds."""
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                await self._session(self._inventory.get(device.address))
            except BondError as error:
                self._enter(device, LinkState.BOND_LOST)
                self._on_error(error)
            except DeviceError as error:
                if self.states[device.address] is LinkState.UP:
                    self._enter(device, LinkState.DOWN)
                    pause_s = _FIRST_RETRY_S
                self._on_error(error)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, self._config.retry_max_s)

    async def _session(self, device: Device) -> None:
        """One connection from first to last. Ends by a `DeviceError`."""
        if device.paired and not await self._radio.bonded(device.address):
            raise BondError(f"{device.address}: was paired, but its bond is missing here; pair it again")
        collector = Collector(
            device,
            PROFILES[device.profile](device.address, DeviceTimes(device.address, self._clock, self._book)),
            cursor=self._cursors.get(device.address),
            sink=self._sink,
            on_error=self._on_error,
            on_backfill=partial(self.backfills.__setitem__, device.address),
            racp_timeout_s=self._config.racp_timeout_s,
            now_ms=self._clock.now_ms,
        )
        try:
            client = await self._connect(device, collector.end)
            try:
                await self._secure(device, client)
                self._enter(device, LinkState.UP)
                await collector.run(client)
            finally:
                self._cursors[device.address] = collector.cursor
                await _disconnect(client)
        except (BleakError, TimeoutError) as error:
            raise LinkError(f"{device.address}: {error}") from error

    async def _connect(self, device: Device, on_disconnect: Callable[[], None]) -> BleakClient:
        """A controller makes one connection at a time; the others wait for their turn."""
        async with self._connecting:
            return await self._radio.connect(
                device.address, timeout_s=self._config.connect_timeout_s, on_disconnect=on_disconnect
            )

    async def _secure(self, device: Device, client: BleakClient) -> None:
        """Pair if that was never done, and take nothing over a link that a man in the middle could read.

        A gateway that was killed between the bond and its note in the inventory finds the bond and notes it now.
        """
        if not device.paired:
            if not await self._radio.bonded(device.address):
                await self._radio.pair(client)
            try:
                self._inventory.mark_paired(device.address)
            except OSError as error:
                raise LinkError(f"{device.address}: cannot be noted as paired: {error.strerror}") from error
            self._on_event("paired", device.address)
        if not await self._radio.authenticated(client):
            raise LinkError(f"{device.address}: the link is not authenticated")

    def _enter(self, device: Device, state: LinkState) -> None:
        """Tell a change of state once."""
        if self.states[device.address] is not state:
            self.states[device.address] = state
            self._on_event(state.value, device.address)


async def _disconnect(client: BleakClient) -> None:
    """End a link that may have ended already."""
    with suppress(BleakError, TimeoutError):
        async with asyncio.timeout(_DISCONNECT_S):
            await client.disconnect()
