"""Continuous Glucose Monitoring (0x181F, CGMS 1.0.2): measurement, feature, status, session start and run time.

Read the feature (0x2AA8) first: only it tells whether the other values carry an E2E-CRC.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import ClassVar, Final, Self

from gateway.errors import DecodeError
from gateway.health.crc import CRC_OCTETS, CrcError, split_crc, with_crc
from gateway.health.date_time import DateTime, utc_offset_min
from gateway.health.measurement import (
    DATE_TIME,
    DST,
    SFLOAT,
    TIME_ZONE,
    U8,
    U16,
    U24,
    ChecksummedMeasurement,
    Fields,
    Measurement,
    layout,
    on_wire,
    put,
)
from gateway.health.metrics import GLUCOSE, GLUCOSE_QUALITY, GLUCOSE_TREND
from gateway.health.reading import Bits, anomaly, reading, reasons_of
from gateway.health.sfloat import Number
from gateway.model import Extra, ExtraValue, Reading, Reason

_SMALLEST_RECORD: Final = 6
_MINUTE_MS: Final = 60_000
_E2E_CRC_BIT: Final = 1 << 12
_LEVEL_LOW_MG_DL: Final = 70
_LEVEL_HIGH_MG_DL: Final = 180

_SAYS_LOW: Final = 0x45 << 16
"""Warnings: below the patient's low level, hypoglycaemic, below the device's range."""
_SAYS_HIGH: Final = 0x8A << 16
_SAYS_FALLING: Final = 0x10 << 16
_SAYS_RISING: Final = 0x20 << 16

_STATUS: Final[Bits] = (
    (1 << 0, Reason.NOT_READY),  # session stopped
    (1 << 1, Reason.BATTERY_LOW),
    (1 << 2 | 1 << 3 | 1 << 5, Reason.SENSOR_FAULT),  # wrong type, malfunction, general fault
    (1 << 4, Reason.DEVICE_DOUBTS),  # device specific alert
    (1 << 8, Reason.TIME_DOUBTFUL),  # time synchronisation required
    (1 << 10 | 1 << 11 | 1 << 14, Reason.CALIBRATION),  # recommended, required, pending
    (1 << 12 | 1 << 13, Reason.SENSOR_FAULT),  # too hot, too cold
    (1 << 22 | 1 << 23, Reason.OUT_OF_RANGE),  # result outside what the device can measure
    (1 << 6 | 1 << 7 | 1 << 15, Reason.ANOMALY),  # reserved
)
_NOT_READY_WITHOUT_VALUE: Final = 1 << 4 | 1 << 11 | 1 << 14
"""There is no bit for warm-up: with no number, these say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Measurement):
    """One record of CGM Measurement, mg/dL and minutes since the session's start.

    Octets of the status that are clear may be left out. Their order is that of GSS; some devices send them in another,
    so an alarm bit that the value contradicts is a `Reason.CONTRADICTION`.
    """

    glucose: Number = on_wire(SFLOAT, called="glucose_mg_dl")
    offset_min: int = on_wire(U16, called="time_offset_min")
    status: int | None = on_wire(U8, bit=7)
    cal_temp: int | None = on_wire(U8, bit=6)
    warning: int | None = on_wire(U8, bit=5)
    trend: Number | None = on_wire(SFLOAT, bit=0)
    """mg/dL/min."""
    quality: Number | None = on_wire(SFLOAT, bit=1, called="quality_pct")
    crc: int | None = field(default=None, compare=False)

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> "Record":
        """Read one record from its size to its CRC. Raises `DecodeError`."""
        if len(value) < _SMALLEST_RECORD or len(value) != value[0]:
            raise DecodeError(f"a record of {len(value)} octets, whose own size is {value[0] if value else 'missing'}")
        octets, crc = split_crc(value, 1 + layout(cls, value[1]).size, present=e2e_crc)
        return cls.parse(octets[1:], crc=crc)

    def encode(self, *, e2e_crc: bool = False) -> bytes:
        """The record, from its size to its CRC."""
        octets = Measurement.encode(self)
        size = 1 + len(octets) + (CRC_OCTETS if e2e_crc else 0)
        record = bytes((size,)) + octets
        return with_crc(record) if e2e_crc else record

    def fields(self) -> Fields:
        """As declared, and the CRC."""
        out = Measurement.fields(self)
        put(out, "crc", self.crc)
        return out

    @property
    def status_bits(self) -> int:
        """All three octets as 0x2AA9 has them: status, calibration and temperature, warning."""
        return (self.status or 0) | (self.cal_temp or 0) << 8 | (self.warning or 0) << 16

    def reversed_octets(self) -> Self:
        """The record as meant by a device that sends the warning octet first and the status octet last, against GSS.

        The encoders of one widespread SDK do; nothing on the air tells.
        """
        sent = [name for name in ("status", "cal_temp", "warning") if getattr(self, name) is not None]
        return replace(self, **{name: getattr(self, other) for name, other in zip(sent, sent[::-1], strict=True)})

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """Glucose, and trend and quality if they were sent; `Extra.SEQUENCE` is the offset, `STATUS` `status_bits`."""
        status = self.status_bits
        reasons = reasons_of(status, _STATUS) | anomaly([self.rfu_flags])
        if self.glucose.mantissa is None:
            reasons |= Reason.NOT_READY if status & _NOT_READY_WITHOUT_VALUE else Reason.NONE
        elif status >> 16 and _contradicts(self.glucose, self.trend, status):
            reasons |= Reason.CONTRADICTION
        extras: dict[Extra, ExtraValue] = {Extra.SEQUENCE: self.offset_min, Extra.STATUS: status or None}
        values = ((GLUCOSE, self.glucose), (GLUCOSE_TREND, self.trend), (GLUCOSE_QUALITY, self.quality))
        return tuple(
            reading(metric, number, device=device, time_ms=time_ms, reasons=reasons, extras=extras)
            for metric, number in values
            if number is not None
        )


def _contradicts(glucose: Number, trend: Number | None, status: int) -> bool:
    """Whether the warnings contradict the value, its trend, or each other."""
    low, high = bool(status & _SAYS_LOW), bool(status & _SAYS_HIGH)
    falling, rising = bool(status & _SAYS_FALLING), bool(status & _SAYS_RISING)
    value = float(str(glucose))
    change = (trend and trend.mantissa) or 0
    return (
        (low and (high or value >= _LEVEL_HIGH_MG_DL))
        or (high and value <= _LEVEL_LOW_MG_DL)
        or (falling and (rising or change > 0))
        or (rising and change < 0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Records(Measurement):
    """CGM Measurement (0x2AA7): records back to back."""

    FLAGS_OCTETS: ClassVar[int] = 0

    records: tuple[Record, ...]
    cut_short: bool = field(default=False, compare=False)
    """A record's CRC was wrong: it and all that followed were dropped, as none can be told from the next any more."""

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> "Records":
        """Read `value` up to the first record with a wrong CRC. Raises `DecodeError` if that is the first of all.

        If the length of the first record tells that there are CRCs, all have one.
        """
        records: list[Record] = []
        at = 0
        while at < len(value):
            record = value[at : at + max(value[at], _SMALLEST_RECORD)]
            try:
                records.append(Record.decode(record, e2e_crc=e2e_crc))
            except CrcError:
                if not records:
                    raise
                return cls(records=tuple(records), cut_short=True)
            at += len(record)
            e2e_crc = records[0].crc is not None
        if not records:
            raise DecodeError("no record")
        return cls(records=tuple(records))

    def encode(self, *, e2e_crc: bool = False) -> bytes:
        """The records back to back."""
        return b"".join(record.encode(e2e_crc=e2e_crc) for record in self.records)

    def fields(self) -> Fields:
        """Those of each record, and whether some were dropped."""
        out: Fields = {"records": [record.fields() for record in self.records]}
        return out | {"cut_short": True} if self.cut_short else out

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """Those of all records: the last one's time is `time_ms`, the others' follow from their offsets."""
        last_min = self.records[-1].offset_min
        return tuple(
            each
            for record in self.records
            for each in record.readings(device=device, time_ms=time_ms - (last_min - record.offset_min) * _MINUTE_MS)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Measurement):
    """CGM Feature (0x2AA8). Its CRC field is always there, and is checked if the feature says that CRCs are used."""

    FLAGS_OCTETS: ClassVar[int] = 0

    features: int = on_wire(U24)
    sample_type: int = on_wire(U8, nibbles=("type", "location"))
    crc: int = field(default=0xFFFF, compare=False)

    @property
    def e2e_crc(self) -> bool:
        """Whether the service's values carry an E2E-CRC."""
        return bool(self.features & _E2E_CRC_BIT)

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> "Feature":  # noqa: ARG003 - it tells by itself
        """Read `value`. Raises `DecodeError`."""
        content = value[:-CRC_OCTETS]
        feature = cls.parse(content, crc=int.from_bytes(value[-CRC_OCTETS:], "little"))
        split_crc(value, len(content), present=feature.e2e_crc)
        return feature

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - `features` tells
        """The six octets."""
        octets = Measurement.encode(self)
        return with_crc(octets) if self.e2e_crc else octets + b"\xff\xff"

    def fields(self) -> Fields:
        """As declared, and the CRC."""
        return Measurement.fields(self) | {"crc": self.crc}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(ChecksummedMeasurement):
    """CGM Status (0x2AA9), with all three octets of the status."""

    offset_min: int = on_wire(U16, called="time_offset_min")
    status: int = on_wire(U8)
    cal_temp: int = on_wire(U8)
    warning: int = on_wire(U8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStart(ChecksummedMeasurement):
    """CGM Session Start Time (0x2AAA): local time, zone and daylight saving in quarters of an hour."""

    start: DateTime = on_wire(DATE_TIME)
    time_zone: int = on_wire(TIME_ZONE)
    dst: int = on_wire(DST)

    @property
    def moment(self) -> datetime | None:
        """The instant, with its zone; None if the date or the zone is unknown."""
        local, offset_min = self.start.moment, utc_offset_min(self.time_zone, self.dst)
        if local is None or offset_min is None:
            return None
        return local.replace(tzinfo=timezone(timedelta(minutes=offset_min)))

    def fields(self) -> Fields:
        """As declared, and what local time is ahead of UTC; null if unknown."""
        return ChecksummedMeasurement.fields(self) | {"utc_offset_min": utc_offset_min(self.time_zone, self.dst)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRunTime(ChecksummedMeasurement):
    """CGM Session Run Time (0x2AAB): how long the sensor is expected to last."""

    run_time_h: int = on_wire(U16)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    0x2AA7: Records,
    0x2AA8: Feature,
    0x2AA9: Status,
    0x2AAA: SessionStart,
    0x2AAB: SessionRunTime,
}
SERVICE: Final = 0x181F
