"""One connection's work: read what a wearable is, subscribe, fetch what it stored, then take what it says.

All values pass through one queue in the order of their arrival, so a transfer's end is seen after its records. While a
transfer runs, records are gathered and handed on in small groups; the last group carries the cursor, so that both are
durable together.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakGATTProtocolError

from gateway.ble.inventory import Device
from gateway.ble.profiles import RACP, Profile
from gateway.ble.progress import Item, Progress
from gateway.ble.racp import Transfer
from gateway.errors import BondError, DecodeError, DeviceError, LinkError, ProcedureError
from gateway.health import racp
from gateway.health.crc import CrcError
from gateway.model import Cursor, Extra, Frame, Reading, Reason

Sink = Callable[[Sequence[Reading], Cursor | None], None]
OnError = Callable[[DeviceError], None]


class Backfill(Enum):
    """Whether everything that a wearable has stored is here, as of its last link."""

    NONE = "none"
    """It stores nothing."""
    OPEN = "open"
    """Not known to be, or known not to be: it is asked again until all is here."""
    COMPLETE = "complete"


OnBackfill = Callable[[Backfill], None]

_GROUP = 128
_QUEUE = 8192
_RESYNC_S = 300.0
"""How often to ask for stored records again while connected: some meters never send one unasked."""
_RETRY_S = 2.0
_RETRY_MAX_S = 600.0
"""After each failure the pause doubles up to this: asking costs the wearable's battery."""
_PROCEDURE_IN_PROGRESS = (0x80, 0xFE)
"""ATT errors of GLS 1.0.1 and of the Core specification."""
_NOT_SECURE_ENOUGH = (0x05, 0x0F)
"""ATT errors: insufficient authentication, insufficient encryption."""


def uuid(characteristic: int) -> str:
    """The 128-bit form of a 16-bit UUID, as bleak wants it."""
    return f"0000{characteristic:04x}-0000-1000-8000-00805f9b34fb"


class Collector:
    """Collects from one wearable for as long as one link lasts.

    `sink` takes readings, and the cursor they bring about; `on_error` takes what was wrong with single values or
    transfers, after which collection goes on; `on_backfill` hears at every change whether all stored records are here;
    `now_ms` tells gateway time; `seen` as in `Progress`.
    """

    def __init__(
        self,
        device: Device,
        profile: Profile,
        *,
        cursor: Cursor | None,
        seen: set[Hashable],
        sink: Sink,
        on_error: OnError,
        on_backfill: OnBackfill,
        racp_timeout_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._device = device
        self._profile = profile
        self._progress = Progress(device.address, profile.numbering, cursor, seen)
        self._sink = sink
        self._on_error = on_error
        self._on_backfill = on_backfill
        self._racp_timeout_s = racp_timeout_s
        self._now_ms = now_ms
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue(_QUEUE)
        self._overflown = False
        self._stores = False
        self._transfer: Transfer | None = None
        self._held: list[Item] = []
        self._next_transfer = 0.0
        self._retry_s = _RETRY_S
        self._not_before = 0.0
        self._everything = False
        self._clock = asyncio.get_running_loop().time

    @property
    def cursor(self) -> Cursor | None:
        """How far everything was handed on."""
        return self._progress.cursor

    def end(self) -> None:
        """The link has ended; what came before is still worked off."""
        self._put(None)

    async def run(self, client: BleakClient) -> None:
        """Collect over `client`.

        Ends by `LinkError` when the link does, or by another `DeviceError` if what the device says makes no sense.
        """
        self._client = client
        for characteristic in self._profile.characteristics:
            await self._subscribe(characteristic)
        try:
            await self._begin()
            while True:
                await self._step()
        finally:
            self._held += self._profile.left()
            self._hand_on(None)

    async def _subscribe(self, characteristic: int) -> None:
        """Hear of its values, if the device has it."""
        if not self._client.services.get_characteristic(uuid(characteristic)):
            return
        try:
            await self._client.start_notify(uuid(characteristic), self._on_value)
        except BleakGATTProtocolError as error:
            raise self._refused(error) from error

    async def _read(self, characteristic: int) -> bytes | None:
        """Its value, or None if the device lacks it or will not tell."""
        if not self._client.services.get_characteristic(uuid(characteristic)):
            return None
        try:
            return bytes(await self._client.read_gatt_char(uuid(characteristic)))
        except BleakGATTProtocolError as error:
            refused = self._refused(error)
            if isinstance(refused, BondError):
                raise refused from error
            return None

    def _refused(self, error: BleakGATTProtocolError) -> DeviceError:
        """What an ATT error means. A link that we hold for secure and the device doesn't: it has lost our bond."""
        address = self._device.address
        if error.code in _NOT_SECURE_ENOUGH:
            return BondError(f"{address}: does not know this gateway's bond any more; pair it again")
        return ProcedureError(f"{address}: refuses: {error}")

    def _on_value(self, characteristic: BleakGATTCharacteristic, value: bytearray) -> None:
        number = int(characteristic.uuid[4:8], 16)
        self._put(Frame(self._device.address, number, bytes(value), self._now_ms()))

    def _put(self, frame: Frame | None) -> None:
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            self._overflown = True

    async def _step(self) -> None:
        """Wait for one thing to happen and deal with it."""
        deadline = self._transfer.deadline if self._transfer else self._next_transfer
        try:
            async with asyncio.timeout_at(deadline):
                frame = await self._frames.get()
        except TimeoutError:
            await self._on_deadline()
            return
        if self._overflown:
            raise LinkError(f"{self._device.address}: sends more than can be taken")
        if frame is None:
            raise LinkError(f"{self._device.address}: the link ended")
        if frame.characteristic == RACP:
            await self._on_indication(frame.value)
        else:
            await self._on_measurement(frame)

    async def _on_deadline(self) -> None:
        if self._transfer is None:
            await self._begin()
            return
        await self._write(self._transfer.expired(self._clock()))
        await self._conclude()

    async def _on_indication(self, value: bytes) -> None:
        if self._transfer is not None:
            await self._write(self._transfer.indicated(value, self._clock()))
            await self._conclude()

    async def _on_measurement(self, frame: Frame) -> None:
        try:
            items, damaged = self._profile.items(frame)
        except DecodeError as error:
            items, damaged = [], error
            if self._transfer is not None and not isinstance(error, CrcError):
                # It came as it is stored: asking again would not help, and it must not keep the cursor for ever.
                await self._write(self._transfer.recorded(frame.value, self._clock()))
        for item in items:
            if self._transfer is not None and item.sequence is not None:
                await self._write(self._transfer.recorded(item.key, self._clock()))
                if self._progress.fresh(item):
                    self._take_during_transfer(item)
            elif self._transfer is not None and item.attached:
                self._hold(item)
            elif self._progress.fresh(item):
                self._on_live(item)
        if damaged is not None:
            self._on_error(damaged)
            self._progress.missed()
            self._fetch_after(self._retry_s)

    def _take_during_transfer(self, item: Item) -> None:
        """A record that was made since the transfer began is live, and an alarm in it must not wait for old records."""
        if item.new:
            self._sink(item.readings, None)
        else:
            self._hold(item)

    def _on_live(self, item: Item) -> None:
        cursor = self._progress.live(item)
        self._sink(item.readings, cursor)
        if item.sequence is not None and not self._progress.complete:
            self._fetch_after(0.0)

    def _fetch_after(self, pause_s: float) -> None:
        """There may be more in the wearable's store; ask within `pause_s`, or as soon as a failure allows."""
        if not self._stores:
            return
        self._tell_backfill()
        self._next_transfer = max(self._not_before, min(self._next_transfer, self._clock() + pause_s))

    def _hold(self, item: Item) -> None:
        """Keep a stored record until its group is full; the last one always waits, for the cursor to come with it."""
        self._held.append(item)
        if len(self._held) > _GROUP:
            last = self._held.pop()
            self._hand_on(None)
            self._held.append(last)

    def _hand_on(self, cursor: Cursor | None) -> None:
        held, self._held = self._held, []
        readings = [_from_store(reading) for item in held for reading in item.readings]
        if readings:
            self._sink(readings, cursor)

    async def _begin(self) -> None:
        """Learn what the device is and how its clock stands; start to fetch what it has stored since the cursor."""
        self._next_transfer = self._clock() + _RESYNC_S
        await self._profile.prepare(self._read, self._progress.cursor)
        has_racp = self._client.services.get_characteristic(uuid(RACP)) is not None
        self._stores = has_racp and self._profile.stores
        if not self._stores:
            self._on_backfill(Backfill.NONE)
            return
        if self._progress.settled:
            return
        first = self._progress.begin(self._profile.session, everything=self._everything)
        self._tell_backfill()
        self._transfer = Transfer(first=first, timeout_s=self._racp_timeout_s)
        await self._write(self._transfer.begin(self._clock()))

    async def _conclude(self) -> None:
        """If the transfer has ended: move the cursor if everything came, else leave the hole for the next attempt."""
        if self._transfer is None or not self._transfer.ended:
            return
        transfer, self._transfer = self._transfer, None
        if transfer.cannot_select and not self._everything:
            self._everything = True
            await self._begin()
            return
        try:
            transfer.check()
        except ProcedureError as error:
            self._failed(ProcedureError(f"{self._device.address}: {error}"))
            return
        self._retry_s, self._not_before = _RETRY_S, 0.0
        if self._progress.finish():
            self._hand_on(self._progress.cursor)
            self._tell_backfill()
        else:
            self._hand_on(None)
            await self._begin()

    def _failed(self, error: DeviceError) -> None:
        """A transfer came to nothing: what came is handed on, the rest is asked for again after a pause."""
        self._hand_on(None)
        self._on_error(error)
        self._not_before = self._clock() + self._retry_s
        self._next_transfer = self._not_before
        self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    def _tell_backfill(self) -> None:
        self._on_backfill(Backfill.COMPLETE if self._progress.complete else Backfill.OPEN)

    async def _write(self, command: bytes | None) -> None:
        """Write to the control point. A device that refuses is asked again a little later; live values go on."""
        if command is None:
            return
        try:
            await self._client.write_gatt_char(uuid(RACP), command, response=True)
        except BleakGATTProtocolError as error:
            self._transfer = None
            self._failed(self._refused(error))
            if error.code in _PROCEDURE_IN_PROGRESS:
                with suppress(BleakGATTProtocolError):
                    await self._client.write_gatt_char(uuid(RACP), racp.encode_abort(), response=True)


def _from_store(reading: Reading) -> Reading:
    extras = {**dict(reading.extras), int(Extra.BACKFILLED): 1}
    return replace(reading, reasons=reading.reasons | Reason.STORED, extras=tuple(sorted(extras.items())))
