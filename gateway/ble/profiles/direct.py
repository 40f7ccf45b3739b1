"""Wearables that are simply listened to: live values, and what they stored meanwhile, which comes with its time."""

from gateway import health
from gateway.ble.profiles.base import M, Read, marked, told
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.progress import Item, Numbering
from gateway.errors import DecodeError, DeviceError
from gateway.health.measurement import Measurement
from gateway.model import Cursor, Frame


class Direct:
    """Whatever a profile in `gateway.health` names as `COLLECTED`."""

    numbering = Numbering.NONE
    stores = False
    session = ""

    def __init__(self, address: str, times: DeviceTimes, characteristics: tuple[int, ...]) -> None:
        self._address = address
        self._times = times
        self.characteristics = characteristics
        self._wrong: DeviceError | None = None

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:  # noqa: ARG002 - it stores nothing by number
        """Compare its clock with ours."""
        await self._times.look(read)

    async def ask(self, read: Read, kind: type[M], characteristic: int) -> M | None:
        """What it says once for all values, if it does; what is wrong with that costs no value, and is told later."""
        value = await read(characteristic)
        try:
            return None if value is None else told(kind, characteristic, value)
        except DecodeError as error:
            self._wrong = error
            return None

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """As `Profile.items`."""
        measurement = health.decode(frame.characteristic, frame.value)
        item = self.item(measurement, frame.received_ms)
        wrong, self._wrong = self._wrong, None
        return [item], wrong

    def item(self, measurement: Measurement, received_ms: int) -> Item:
        """What it measured, with its time."""
        moment = measurement.moment
        if moment is None and measurement.stored:
            when = self._times.unknown(received_ms)
        elif moment is None or measurement.stored is False:
            when = self._times.arrived(received_ms)
        else:
            when = self._times.stamped(moment, received_ms)
        readings = measurement.readings(device=self._address, time_ms=when.time_ms)
        return Item(marked(readings, when.extras, when.reasons))

    def left(self) -> list[Item]:
        """Nothing."""
        return []
