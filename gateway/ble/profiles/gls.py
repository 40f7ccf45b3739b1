"""Glucose meters: single readings, each with a number, the meter's own time, and sometimes what went with it."""

from datetime import UTC, datetime
from typing import Final, TypeVar

from gateway.ble.profiles.base import RACP, Read, marked, told
from gateway.ble.profiles.times import DeviceTimes, When
from gateway.ble.progress import OWN_NAME, Item, Numbering
from gateway.errors import DeviceError
from gateway.health import gls
from gateway.model import Cursor, Extra, Frame, Reading, Reason

K = TypeVar("K")
V = TypeVar("V")

_CONTEXT: Final = 0x2A34
_MOST: Final = 2_048
"""Measurements remembered for what goes with them, and contexts that wait for their measurement."""
_SHARED: Final = (Extra.TIME_SOURCE, Extra.UNCERTAINTY_MS, Extra.SESSION, Extra.DEVICE_TIME, Extra.CORRECTION_MS)
_SHARED_REASONS: Final = Reason.TIME_DOUBTFUL | Reason.CLOCK_WRONG | Reason.CONTROL_SOLUTION


class GlucoseMeter:
    """A meter: each record is timed by the meter's clock; a context gets the time and session of its measurement."""

    characteristics = (0x2A18, _CONTEXT, RACP)
    numbering = Numbering.COUNTER
    stores = True
    session = ""

    def __init__(self, address: str, times: DeviceTimes) -> None:
        self._address = address
        self._times = times
        self._undated = ""
        """Stands for the base time of records without a date: without it, a reset would make them look the same."""
        self._measured: dict[int, Reading] = {}
        self._waiting: dict[int, gls.Context] = {}
        self._joined: dict[tuple[str, gls.Context], None] = {}

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Compare the meter's clock with ours."""
        if cursor and cursor.session.startswith(OWN_NAME):
            self._undated = cursor.session
        else:
            self._undated = f"{OWN_NAME}{datetime.fromtimestamp(self._times.now_ms() / 1000, UTC).date()}"
        await self._times.look(read)

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """As `Profile.items`."""
        if frame.characteristic == _CONTEXT:
            context = told(gls.Context, frame.characteristic, frame.value)
            return self._join(context), None
        measurement = told(gls.Glucose, frame.characteristic, frame.value)
        session = measurement.base_time.isoformat() if measurement.base_time.moment else self._undated
        when = self._when(measurement, frame.received_ms)
        readings = measurement.readings(device=self._address, time_ms=when.time_ms)
        extras = when.extras | {Extra.SEQUENCE: measurement.sequence, Extra.SESSION: session}
        item = Item(marked(readings, extras, when.reasons), measurement.sequence, session, measurement)
        self._measured[measurement.sequence] = item.readings[0]
        _bound(self._measured)
        waiting = self._waiting.pop(measurement.sequence, None)
        return [item, *(self._join(waiting) if waiting else ())], None

    def _when(self, measurement: gls.Glucose, received_ms: int) -> When:
        """A meter that doubts its own clock is not asked."""
        moment = measurement.moment
        if moment is None or (measurement.status or 0) & gls.TIME_FAULT:
            return self._times.unknown(received_ms)
        return self._times.stamped(moment, received_ms)

    def _join(self, context: gls.Context) -> list[Item]:
        """What went with a measurement, once both are here; a meter repeats the two when it is asked again."""
        measured = self._measured.get(context.sequence)
        if measured is None:
            self._waiting[context.sequence] = context
            return self._alone(max(len(self._waiting) - _MOST, 0))
        extras = {key: value for key, value in measured.extras if key in _SHARED}
        key = (str(extras[Extra.SESSION]), context)
        if key in self._joined:
            return []
        self._joined[key] = None
        _bound(self._joined)
        readings = context.readings(device=self._address, time_ms=measured.time_ms)
        shared = {Extra(key): value for key, value in extras.items()}
        return [Item(marked(readings, shared, measured.reasons & _SHARED_REASONS), attached=True)]

    def left(self) -> list[Item]:
        """Contexts whose measurement never came: nobody knows when they were."""
        return self._alone(len(self._waiting))

    def _alone(self, count: int) -> list[Item]:
        """The oldest `count` contexts that wait, without their measurement."""
        when = self._times.unknown(self._times.now_ms())
        contexts = [self._waiting.pop(sequence) for sequence in list(self._waiting)[:count]]
        found = (each.readings(device=self._address, time_ms=when.time_ms) for each in contexts)
        return [Item(marked(readings, when.extras, when.reasons), attached=True) for readings in found]


def _bound(remembered: dict[K, V]) -> None:
    """Forget the oldest beyond so many."""
    while len(remembered) > _MOST:
        del remembered[next(iter(remembered))]
