"""What a wearable shows and says, written down as it comes: for a bug report that becomes a test.

One JSON object a line; `t_ms` counts from the start, UUIDs have 4 digits where they are 16-bit ones, values are hex:

    {"capture": 1, "values": true}
    {"t_ms": 0, "service": "181F", "characteristics": [{"uuid": "2AA7", "properties": ["notify"]}, ...]}
    {"t_ms": 4, "read": "2AA8", "value": "001000594ef8"}      or "error" in place of "value"
    {"t_ms": 9, "subscribe": "2AA7"}                          or with "error"
    {"t_ms": 11, "write": "2A52", "value": "0401"}            what we ask for: to count and report, never to change
    {"t_ms": 12, "refused": "2A52", "error": "..."}           if it was refused
    {"t_ms": 12, "notify": "2AA7", "value": "08006e000000a5c3"}

Without values, "length" in octets stands in place of what was read or notified. Neither address nor name is told.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakGATTProtocolError

from gateway.ble.collector import uuid
from gateway.ble.profiles import RACP
from gateway.ble.racp import Transfer
from gateway.errors import LinkError

VERSION: Final = 1
_BASE_UUID: Final = uuid(0)[8:]
_RACP_TIMEOUT_S: Final = 30.0
_LISTENED: Final = ("notify", "indicate")

Tell = Callable[[Mapping[str, object]], None]


class Capture:
    """Captures over one link: reads what can be read, listens to all, and has the stored records sent.

    `tell` takes the lines, as objects. `end` says that the link has ended.
    """

    def __init__(self, *, values: bool, tell: Tell) -> None:
        self._values = values
        self._tell = tell
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()
        self._frames: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

    def end(self) -> None:
        """Nothing more will come."""
        self._frames.put_nowait(None)

    async def run(self, client: BleakClient, *, seconds: float) -> None:
        """Capture until the stored records have come and `seconds` have passed. Raises `LinkError` if the link ends."""
        self._tell({"capture": VERSION, "values": self._values})
        found = [each for service in client.services for each in service.characteristics]
        for service in client.services:
            shown = [{"uuid": _short(each.uuid), "properties": each.properties} for each in service.characteristics]
            self._note(service=_short(service.uuid), characteristics=shown)
        for each in found:
            if "read" in each.properties:
                await self._read(client, each)
        for each in found:
            if not set(_LISTENED).isdisjoint(each.properties):
                await self._subscribe(client, each)
        await self._listen(client, until=self._started + seconds)

    async def _read(self, client: BleakClient, characteristic: BleakGATTCharacteristic) -> None:
        try:
            value = await client.read_gatt_char(characteristic)
        except BleakGATTProtocolError as error:
            self._note(read=_short(characteristic.uuid), error=str(error))
        else:
            self._note(read=_short(characteristic.uuid), **self._shown(value))

    async def _subscribe(self, client: BleakClient, characteristic: BleakGATTCharacteristic) -> None:
        def on_value(_: BleakGATTCharacteristic, value: bytearray) -> None:
            self._note(notify=_short(characteristic.uuid), **self._shown(value))
            self._frames.put_nowait((int(characteristic.uuid[4:8], 16), bytes(value)))

        try:
            await client.start_notify(characteristic, on_value)
        except BleakGATTProtocolError as error:
            self._note(subscribe=_short(characteristic.uuid), error=str(error))
        else:
            self._note(subscribe=_short(characteristic.uuid))

    async def _listen(self, client: BleakClient, *, until: float) -> None:
        """Have the stored records sent, if there are any, and take what comes."""
        transfer = Transfer(first=None, timeout_s=_RACP_TIMEOUT_S)
        stores = client.services.get_characteristic(uuid(RACP)) is not None
        if stores:
            await self._write(client, transfer.begin(self._clock()))
        while (stores and not transfer.ended) or self._clock() < until:
            deadline = transfer.deadline if stores and not transfer.ended else until
            try:
                async with asyncio.timeout_at(deadline):
                    frame = await self._frames.get()
            except TimeoutError:
                await self._write(client, transfer.expired(self._clock()))
                continue
            if frame is None:
                raise LinkError("the link ended")
            characteristic, value = frame
            if characteristic == RACP:
                await self._write(client, transfer.indicated(value, self._clock()))
            else:
                await self._write(client, transfer.recorded(value, self._clock()))

    async def _write(self, client: BleakClient, command: bytes | None) -> None:
        if command is None:
            return
        self._note(write=_short(uuid(RACP)), value=command.hex())  # first: records may come before it is confirmed
        try:
            await client.write_gatt_char(uuid(RACP), command, response=True)
        except BleakGATTProtocolError as error:
            self._note(refused=_short(uuid(RACP)), error=str(error))

    def _shown(self, value: bytes | bytearray) -> dict[str, object]:
        return {"value": value.hex()} if self._values else {"length": len(value)}

    def _note(self, **line: object) -> None:
        self._tell({"t_ms": round((self._clock() - self._started) * 1000), **line})


def _short(full: str) -> str:
    return full[4:8].upper() if full.endswith(_BASE_UUID) and full.startswith("0000") else full
