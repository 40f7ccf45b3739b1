"""Thermometers: where on the body they measure, some say once and not with every value (2A1D)."""

from dataclasses import replace
from typing import Final

from gateway.ble.profiles.base import Read
from gateway.ble.profiles.direct import Direct
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.progress import Item
from gateway.health import hts
from gateway.health.measurement import Measurement
from gateway.model import Cursor

_TYPE: Final = 0x2A1D


class Thermometer(Direct):
    """A thermometer."""

    def __init__(self, address: str, times: DeviceTimes) -> None:
        super().__init__(address, times, hts.COLLECTED)
        self._type: int | None = None

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Learn also where it measures."""
        await super().prepare(read, cursor)
        told = await self.ask(read, hts.TemperatureType, _TYPE)
        self._type = None if told is None else told.value

    def item(self, measurement: Measurement, received_ms: int) -> Item:
        """What a value says by itself of where goes before."""
        if isinstance(measurement, hts.Temperature) and measurement.type is None:
            measurement = replace(measurement, type=self._type)
        return super().item(measurement, received_ms)
