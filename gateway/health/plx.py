"""Pulse Oximeter (0x1822, PLXS 1.0.1): spot-check, continuous measurement, features."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, SFLOAT, U16, U24, Measurement, flag, on_wire
from gateway.health.metrics import (
    PULSE_AMPLITUDE,
    PULSE_RATE,
    PULSE_RATE_FAST,
    PULSE_RATE_SLOW,
    SPO2,
    SPO2_FAST,
    SPO2_SLOW,
)
from gateway.health.reading import Bits, anomaly, reading, reasons_of
from gateway.health.sfloat import Number
from gateway.model import Extra, ExtraValue, Reading, Reason

_DEVICE_SHIFT: Final = 16
FROM_STORAGE: Final = 1 << 9

_MEASUREMENT: Final[Bits] = (
    (1 << 6 | 1 << 14, Reason.DEVICE_DOUBTS),  # early estimate, questionable
    (FROM_STORAGE, Reason.STORED),
    (1 << 10, Reason.DEMO_DATA),
    (1 << 11, Reason.TEST_DATA),
    (1 << 12, Reason.CALIBRATION),
    (1 << 13, Reason.NOT_READY),  # measurement unavailable
    (1 << 15, Reason.SENSOR_FAULT),  # invalid
    (0x1F, Reason.ANOMALY),  # reserved
)
_DEVICE: Final[Bits] = (
    (1 << 1 | 1 << 11 | 1 << 14 | 1 << 15, Reason.SENSOR_FAULT),  # malfunction, not on a body, disconnected
    (0x1FC | 1 << 10 | 1 << 13, Reason.SIGNAL),  # weak, irregular, disturbed, displaced
    (1 << 12, Reason.DEVICE_DOUBTS),  # unknown sensor
    (0xFF << 16, Reason.ANOMALY),  # reserved
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Oximetry(Measurement):
    """What both kinds of measurement begin with."""

    spo2_pct: Number = on_wire(SFLOAT)
    pr_bpm: Number = on_wire(SFLOAT)

    def _readings(
        self,
        values: dict[int, Number | None],
        measurement: int | None,
        sensor: int | None,
        *,
        device: str,
        time_ms: int,
        timestamp: DateTime | None = None,
    ) -> tuple[Reading, ...]:
        measurement, sensor = measurement or 0, sensor or 0
        reasons = reasons_of(measurement, _MEASUREMENT) | reasons_of(sensor, _DEVICE) | anomaly([self.rfu_flags])
        status = measurement | sensor << _DEVICE_SHIFT
        extras: dict[Extra, ExtraValue] = {}
        if timestamp is not None:
            extras[Extra.DEVICE_TIME] = timestamp.isoformat()
        if status:
            extras[Extra.STATUS] = status
        return tuple(
            reading(metric, number, device=device, time_ms=time_ms, reasons=reasons, extras=extras)
            for metric, number in values.items()
            if number is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotCheck(_Oximetry):
    """PLX Spot-Check Measurement (0x2A5E)."""

    timestamp: DateTime | None = on_wire(DATE_TIME, bit=0)
    measurement_status: int | None = on_wire(U16, bit=1)
    device_status: int | None = on_wire(U24, bit=2)
    pai_pct: Number | None = on_wire(SFLOAT, bit=3)
    clock_not_set: bool = flag(4)

    @property
    def moment(self) -> datetime | None:
        """The device's local time; None if it was not sent, or the device says that its clock is not set."""
        return None if self.timestamp is None or self.clock_not_set else self.timestamp.moment

    @property
    def stored(self) -> bool:
        """As the measurement status says."""
        return bool((self.measurement_status or 0) & FROM_STORAGE)

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """Saturation, pulse rate and amplitude; `Extra.STATUS` = measurement status + device status * 2**16."""
        values = {SPO2: self.spo2_pct, PULSE_RATE: self.pr_bpm, PULSE_AMPLITUDE: self.pai_pct}
        return self._readings(
            values,
            self.measurement_status,
            self.device_status,
            device=device,
            time_ms=time_ms,
            timestamp=self.timestamp,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuous(_Oximetry):
    """PLX Continuous Measurement (0x2A5F); its flags are not those of the spot-check."""

    spo2_fast: Number | None = on_wire(SFLOAT, bit=0)
    pr_fast: Number | None = on_wire(SFLOAT, bit=0)
    spo2_slow: Number | None = on_wire(SFLOAT, bit=1)
    pr_slow: Number | None = on_wire(SFLOAT, bit=1)
    measurement_status: int | None = on_wire(U16, bit=2)
    device_status: int | None = on_wire(U24, bit=3)
    pai_pct: Number | None = on_wire(SFLOAT, bit=4)

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """All values that were sent; `Extra.STATUS` = measurement status + device status * 2**16."""
        values = {
            SPO2: self.spo2_pct,
            PULSE_RATE: self.pr_bpm,
            SPO2_FAST: self.spo2_fast,
            PULSE_RATE_FAST: self.pr_fast,
            SPO2_SLOW: self.spo2_slow,
            PULSE_RATE_SLOW: self.pr_slow,
            PULSE_AMPLITUDE: self.pai_pct,
        }
        return self._readings(values, self.measurement_status, self.device_status, device=device, time_ms=time_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features(Measurement):
    """PLX Features (0x2A60): bits 0 and 1 of the features say which status bits follow."""

    FLAGS_OCTETS: ClassVar[int] = 2

    measurement_status_support: int | None = on_wire(U16, bit=0)
    device_status_support: int | None = on_wire(U24, bit=1)

    @property
    def features(self) -> int:
        """All bits."""
        return self.flags

    def fields(self) -> dict[str, object]:
        """The bits, and which status bits are supported."""
        out = Measurement.fields(self)
        out.pop("rfu_flags", None)
        return out | {"features": self.features}


STORAGE: Final = 1 << 2
"""Of the features: spot-checks are stored."""
CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A5E: SpotCheck, 0x2A5F: Continuous, 0x2A60: Features}
SERVICE: Final = 0x1822
COLLECTED: Final = (0x2A5F, 0x2A5E)
