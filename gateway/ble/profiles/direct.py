"""Wearables that are simply listened to: live values, and what they stored meanwhile, which comes with its time."""

from gateway import health
from gateway.ble.profiles.base import Read, marked
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.progress import Item, Numbering
from gateway.errors import DeviceError
from gateway.health.measurement import Measurement
from gateway.model import Cursor, Frame


class Direct:
    """Whatever a profile in `gateway.health` names as `COLLECTED`."""

    numbering = Numbering.NONE
    session = ""

    def __init__(self, address: str, times: DeviceTimes, characteristics: tuple[int, ...]) -> None:
        self._address = address
        self._times = times
        self.characteristics = characteristics

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:  # noqa: ARG002 - it stores nothing by number
        """Compare its clock with ours."""
        await self._times.look(read)

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """As `Profile.items`."""
        measurement = self.completed(health.decode(frame.characteristic, frame.value))
        moment = measurement.moment
        if moment is None and measurement.stored:
            when = self._times.unknown(frame.received_ms)
        elif moment is None or measurement.stored is False:
            when = self._times.arrived(frame.received_ms)
        else:
            when = self._times.stamped(moment, frame.received_ms)
        readings = measurement.readings(device=self._address, time_ms=when.time_ms)
        return [Item(marked(readings, when.extras, when.reasons))], None

    def completed(self, measurement: Measurement) -> Measurement:
        """With what the device tells elsewhere, once for all values."""
        return measurement

    def left(self) -> list[Item]:
        """Nothing."""
        return []
