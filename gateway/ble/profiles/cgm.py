"""Continuous glucose: time is the session's start plus minutes; the features tell whether values carry a CRC."""

from datetime import UTC, datetime
from typing import Final

from gateway.ble.profiles.base import RACP, Read, marked, required, told
from gateway.ble.profiles.times import DeviceTimes, note_on
from gateway.ble.progress import OWN_NAME, Item, Numbering
from gateway.clock.device import Look
from gateway.clock.keeper import BOOT_ENDS_MS
from gateway.errors import DeviceError
from gateway.health import cgm
from gateway.health.crc import CrcError
from gateway.model import Cursor, Extra, ExtraValue, Frame, Reason, TimeSource

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_TO_THE_HOUR: Final = "%Y-%m-%dT%HZ"
"""How we name a session that the device cannot date, so that another estimate agrees."""
_TOLERANCE_MS: Final = 15 * _MINUTE_MS
"""How far two estimates of a session's start may differ; some sensors tell how far they are only with each record."""


class CgmProfile:
    """A sensor and its session."""

    characteristics = (0x2AA7, RACP)
    numbering = Numbering.OFFSET
    stores = True

    def __init__(self, address: str, times: DeviceTimes) -> None:
        self._address = address
        self._times = times
        self._e2e_crc = False
        self._start_ms = 0
        self._age_min = 0
        self._stamp: dict[Extra, ExtraValue] = {}
        self._reasons = Reason.NONE
        self.session = ""

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """A sensor that was told no time, or a wrong one, counts minutes all the same: its session began so long ago.

        The session keeps the name that it had when it was first seen, however often its start is set anew.
        """
        self._e2e_crc = told(cgm.Feature, 0x2AA8, await required(read, 0x2AA8)).e2e_crc
        start = told(cgm.SessionStart, 0x2AAA, await required(read, 0x2AAA), e2e_crc=self._e2e_crc)
        status = told(cgm.Status, 0x2AA9, await required(read, 0x2AA9), e2e_crc=self._e2e_crc)
        now_ms = self._times.now_ms()
        self._age_min = status.offset_min
        ago_ms = status.offset_min * _MINUTE_MS
        self._begin(None if start.moment is None else int(start.moment.timestamp() * 1000), ago_ms, now_ms)
        clockless = now_ms < BOOT_ENDS_MS
        if start.moment is not None and (clockless or Extra.CORRECTION_MS not in self._stamp):
            name = start.moment.isoformat()
        else:
            name = OWN_NAME + datetime.fromtimestamp((now_ms - ago_ms) / 1000, UTC).strftime(_TO_THE_HOUR)
        same = cursor and status.offset_min >= cursor.sequence and _began(cursor.session, self._start_ms)
        self.session = cursor.session if cursor and same else name

    def _begin(self, told_ms: int | None, ago_ms: int, now_ms: int) -> None:
        """Settle when the session began, from what the sensor says and from how many minutes it has counted."""
        counted_ms = now_ms - ago_ms
        self._start_ms, self._reasons = counted_ms, Reason.NONE
        self._stamp = {Extra.TIME_SOURCE: TimeSource.SESSION, Extra.UNCERTAINTY_MS: _TOLERANCE_MS}
        if told_ms is None:
            return
        self._times.compared(Look(told_ms + ago_ms, now_ms, 2 * _MINUTE_MS))
        off_ms = counted_ms - told_ms
        if abs(off_ms) <= _TOLERANCE_MS:
            self._start_ms = told_ms
            self._stamp[Extra.UNCERTAINTY_MS] = _MINUTE_MS + abs(off_ms)
        else:
            self._stamp |= {Extra.TIME_SOURCE: TimeSource.DEVICE_CORRECTED, Extra.CORRECTION_MS: off_ms}
            self._reasons = note_on(off_ms, now_ms)

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """As `Profile.items`."""
        measurement = told(cgm.Records, frame.characteristic, frame.value, e2e_crc=self._e2e_crc)
        damaged = CrcError(f"{frame.characteristic:04X}: a record in the middle is damaged, and what follows is lost")
        return [self._item(record) for record in measurement.records], damaged if measurement.cut_short else None

    def _item(self, record: cgm.Record) -> Item:
        time_ms = self._start_ms + record.offset_min * _MINUTE_MS
        extras = self._stamp | {Extra.SEQUENCE: record.offset_min, Extra.SESSION: self.session}
        readings = marked(record.readings(device=self._address, time_ms=time_ms), extras, self._reasons)
        new = record.offset_min > self._age_min
        return Item(readings, record.offset_min, self.session, (self.session, record), new=new)

    def left(self) -> list[Item]:
        """Nothing."""
        return []


def _began(session: str, start_ms: int) -> bool:
    """Whether the session of that name may have begun at `start_ms`, which is anything if it counts from the boot."""
    try:
        named = datetime.fromisoformat(session.removeprefix(OWN_NAME))
    except ValueError:
        return False
    if named.tzinfo is None or start_ms < BOOT_ENDS_MS:
        return start_ms < BOOT_ENDS_MS
    later_ms = start_ms - int(named.timestamp() * 1000)
    return -_TOLERANCE_MS <= later_ms <= _TOLERANCE_MS + (_HOUR_MS if session.startswith(OWN_NAME) else 0)
