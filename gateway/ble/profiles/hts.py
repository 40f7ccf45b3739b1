"""Thermometers: where on the body they measure, some say once and not with every value (2A1D)."""

from dataclasses import replace
from typing import Final

from gateway.ble.profiles.base import Read, told
from gateway.ble.profiles.direct import Direct
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.progress import Item
from gateway.errors import DecodeError, DeviceError
from gateway.health import hts
from gateway.health.measurement import Measurement
from gateway.model import Cursor, Frame

_TYPE: Final = 0x2A1D


class Thermometer(Direct):
    """A thermometer."""

    def __init__(self, address: str, times: DeviceTimes) -> None:
        super().__init__(address, times, hts.COLLECTED)
        self._type: int | None = None
        self._wrong: DeviceError | None = None

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Learn also where it measures; what it says wrongly of that costs no value."""
        await super().prepare(read, cursor)
        value = await read(_TYPE)
        try:
            self._type = None if value is None else told(hts.TemperatureType, _TYPE, value).value
        except DecodeError as error:
            self._wrong = error

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """As `Profile.items`; the first also tells what was wrong with the type."""
        items, _ = super().items(frame)
        wrong, self._wrong = self._wrong, None
        return items, wrong

    def completed(self, measurement: Measurement) -> Measurement:
        """What a value says by itself goes before."""
        if isinstance(measurement, hts.Temperature) and measurement.type is None:
            return replace(measurement, type=self._type)
        return measurement
