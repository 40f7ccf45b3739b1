"""Pulse oximeters: live values, and spot-checks that some store and send again when asked for all of them.

Their records have no numbers. One is told from another by its time and value, and from its equals by how many of those
came before it.
"""

from collections import Counter
from dataclasses import replace
from typing import Final

from gateway.ble.profiles.base import RACP, Read, marked
from gateway.ble.profiles.direct import Direct
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.progress import Item, Numbering
from gateway.health import plx
from gateway.health.measurement import Measurement
from gateway.model import Cursor, Extra, ExtraValue

_FEATURES: Final = 0x2A60


class PulseOximeter(Direct):
    """An oximeter."""

    numbering = Numbering.TIME

    def __init__(self, address: str, times: DeviceTimes) -> None:
        super().__init__(address, times, (*plx.COLLECTED, RACP))
        self._equals: Counter[object] = Counter()

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Learn also whether it stores spot-checks; one that does not tell is asked for them."""
        await super().prepare(read, cursor)
        told = await self.ask(read, plx.Features, _FEATURES)
        self.stores = told is None or bool(told.features & plx.STORAGE)
        self._equals.clear()

    def item(self, measurement: Measurement, received_ms: int) -> Item:
        """A spot-check is the same live and from the store."""
        item = super().item(measurement, received_ms)
        if not isinstance(measurement, plx.SpotCheck):
            return item
        dated = measurement.timestamp.isoformat() if measurement.timestamp and measurement.moment else ""
        alike = (dated, measurement.spo2_pct, measurement.pr_bpm)
        before = self._equals[alike]
        self._equals[alike] += 1
        extras: dict[Extra, ExtraValue] = (
            {Extra.SEQUENCE: before, Extra.SESSION: dated} if self.stores and dated else {}
        )
        return replace(
            item,
            readings=marked(item.readings, extras),
            sequence=before if measurement.stored else None,
            session=dated,
            key=(*alike, before),
        )
