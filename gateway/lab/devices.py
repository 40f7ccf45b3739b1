"""The three virtual wearables: a CGM and a glucose meter, which store what they measure, and an oximeter."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bumble.gatt import Characteristic
from bumble.link import LocalLink

from gateway.health import cgm, clock, gls, plx
from gateway.health.date_time import DateTime
from gateway.health.metrics import GLUCOSE, GLUCOSE_CAPILLARY, PULSE_RATE, SPO2
from gateway.health.sfloat import Number
from gateway.lab.peripheral import LedgerWriter, Peripheral
from gateway.lab.physiology import Glucose, Oximetry
from gateway.lab.record_access import RecordStore

CGM_ADDRESS = "F0:00:00:00:01:01"
PLX_ADDRESS = "F0:00:00:00:01:02"
GLS_ADDRESS = "F0:00:00:00:01:03"

_E2E_CRC = 1 << 12
_INTERSTITIAL_FLUID = 0x59
_DESIGN_LIFE_H = 14 * 24
_CAPILLARY_FINGER = 0x11
_BETWEEN_MEALS = timedelta(hours=4)
_GLS_TIME_FAULT = 1 << 9
_PLX_TIMESTAMP = 1 << 3


@dataclass(frozen=True, slots=True)
class CgmPace:
    """How a CGM's time passes.

    Its session began `session_age_s` ago. It has been out of use for `lag_min` since its last stored record, so its
    clock lags; from the start on, a device minute takes `minute_s` until the clock has caught up, then a minute. So
    a run of half a minute sees a record every few seconds, of different minutes and none of them in the future.
    """

    session_age_s: float = 10_800.0
    lag_min: int = 60
    minute_s: float = 1.0
    interval_min: int = 3


class Cgm(Peripheral):
    """Continuous glucose monitor (0x181F) with E2E-CRC: stores every record and tells it live."""

    def __init__(
        self,
        link: LocalLink,
        *,
        ledger: LedgerWriter,
        seed: int,
        address: str = CGM_ADDRESS,
        pace: CgmPace | None = None,
    ) -> None:
        super().__init__(link, name="Virtual CGM", address=address, service=0x181F, ledger=ledger)
        self.tell_about_itself()
        self._pace = pace or CgmPace()
        self._glucose = Glucose(seed)
        self._clock_error = timedelta(0)
        self.measurement = self.notifying(0x2AA7)
        self.store = RecordStore(self, self.measurement)
        self.add_service(
            0x181F,
            self.measurement,
            self.readable(0x2AA8, cgm.Feature(features=_E2E_CRC, sample_type=_INTERSTITIAL_FLUID).encode),
            self.readable(0x2AA9, self._status),
            self.readable(0x2AAA, lambda: _session_start(self._session_start + self._clock_error)),
            self.readable(0x2AAB, lambda: cgm.SessionRunTime(run_time_h=_DESIGN_LIFE_H).encode(e2e_crc=True)),
            self.store.control_point,
        )
        self._begin_session(self._pace.session_age_s)
        self._started = self._ledger.now_ms() / 1000
        self._started_offset = max(int(self._pace.session_age_s / 60) - self._pace.lag_min, 0)
        for offset in range(0, self._started_offset + 1, self._pace.interval_min):
            self._measure(offset, backlog=True)

    def _status(self) -> bytes:
        """The session's true age: what lags is the clock that it measures by."""
        return cgm.Status(offset_min=int(self._age_min()), status=0, cal_temp=0, warning=0).encode(e2e_crc=True)

    def _begin_session(self, age_s: float) -> None:
        start = self._ledger.now() - timedelta(seconds=age_s)
        self._session_start = start.replace(microsecond=0)
        self.session = self._session_start.isoformat()

    def set_clock(self, error_s: float) -> None:
        """Let somebody set the session's start anew, by a clock that is so much off."""
        self._clock_error = timedelta(seconds=error_s)

    def restart_session(self) -> None:
        """A new sensor: offsets start over, and the old session's records are gone."""
        self.store.clear()
        self._begin_session(0.0)
        self._started, self._started_offset = self._ledger.now_ms() / 1000, 0

    def offset(self) -> int:
        """Minutes since the session began, by the device's own clock."""
        ahead_min = (self._ledger.now_ms() / 1000 - self._started) / self._pace.minute_s
        return int(min(self._started_offset + ahead_min, max(self._age_min(), self._started_offset)))

    def _age_min(self) -> float:
        return (self._ledger.now() - self._session_start).total_seconds() / 60

    async def run(self) -> None:
        """Measure whenever another interval of device time has passed."""
        last = self.offset()
        while True:
            await asyncio.sleep(self._pace.minute_s / 4)
            if self.offset() >= last + self._pace.interval_min:
                last += self._pace.interval_min
                await self.measure(last)

    async def measure(self, offset: int) -> None:
        """Store one record and tell it to whoever listens."""
        await self.notify(self.measurement, self._measure(offset))

    def _measure(self, offset: int, *, backlog: bool = False) -> bytes:
        value = self._glucose.step(offset)
        record = cgm.Record(glucose=Number(value), offset_min=offset).encode(e2e_crc=True)
        sent_ms = int(self._session_start.timestamp() * 1000) + offset * 60_000 if backlog else self._ledger.now_ms()
        self._ledger.measured(
            self.address,
            characteristic=0x2AA7,
            kind="cgm",
            values={GLUCOSE: str(value)},
            sent_ms=sent_ms,
            session=self.session,
            sequence=offset,
            linked=bool(self.subscribers(self.measurement)),
            stored=True,
            backlog=backlog,
        )
        self.store.add(offset, record)
        return record


class GlucoseMeter(Peripheral):
    """Glucose meter (0x1808): numbers and stores every reading; its clock is wrong by `clock_error_s`.

    It comes with `backlog` results, one every four hours until now.
    """

    def __init__(
        self,
        link: LocalLink,
        *,
        ledger: LedgerWriter,
        seed: int,
        address: str = GLS_ADDRESS,
        interval_s: float = 4.0,
        clock_error_s: float = -90.0,
        backlog: int = 0,
    ) -> None:
        super().__init__(link, name="Virtual glucose meter", address=address, service=0x1808, ledger=ledger)
        self.tell_about_itself()
        self._glucose = Glucose(seed + 1)
        self._interval_s = interval_s
        self._clock_error = timedelta(seconds=clock_error_s)
        self.sequence = 0
        """Of the next record."""
        self._measurement = self.notifying(0x2A18)
        self.store = RecordStore(self, self._measurement)
        self.add_service(
            0x1808,
            self._measurement,
            self.readable(0x2A51, gls.Feature(features=_GLS_TIME_FAULT).encode),
            self.store.control_point,
        )
        self.add_service(0x1805, self.readable(0x2A2B, lambda: clock.CurrentTime.of(self._now()).encode()))

        for before in range(backlog, 0, -1):
            self._measure(self._ledger.now() - before * _BETWEEN_MEALS, backlog=True)

    def _now(self) -> datetime:
        return self._ledger.now() + self._clock_error

    def set_clock(self, error_s: float) -> None:
        """Let somebody set its clock, or its battery run out."""
        self._clock_error = timedelta(seconds=error_s)

    def reset(self) -> None:
        """Forget all readings and start to count anew, as after a factory reset."""
        self.store.clear()
        self.sequence = 0

    async def run(self) -> None:
        """Somebody pricks a finger very often."""
        while True:
            await self.measure()
            await asyncio.sleep(self._interval_s)

    async def measure(self) -> None:
        """Store one reading and tell it to whoever listens."""
        await self.notify(self._measurement, self._measure(self._ledger.now()))

    def _measure(self, moment: datetime, *, backlog: bool = False) -> bytes:
        base = DateTime.of(moment + self._clock_error)
        value = self._glucose.step(self.sequence * 5.0)
        record = gls.Glucose(
            sequence=self.sequence, base_time=base, concentration=Number(value, -5), sample_type=_CAPILLARY_FINGER
        ).encode()
        self._ledger.measured(
            self.address,
            characteristic=0x2A18,
            kind="gls",
            values={GLUCOSE_CAPILLARY: str(value)},
            sent_ms=int(moment.timestamp() * 1000),
            session=base.isoformat(),
            sequence=self.sequence,
            linked=bool(self.subscribers(self._measurement)),
            stored=True,
            backlog=backlog,
        )
        self.store.add(self.sequence, record)
        self.sequence = (self.sequence + 1) & 0xFFFF
        return record


class PulseOximeter(Peripheral):
    """Pulse oximeter (0x1822): a value every `interval_s`, a spot-check now and then; some store those."""

    def __init__(
        self,
        link: LocalLink,
        *,
        ledger: LedgerWriter,
        seed: int,
        address: str = PLX_ADDRESS,
        interval_s: float = 1.0,
        spot_check_every: int = 10,
        stores: bool = False,
    ) -> None:
        super().__init__(link, name="Virtual oximeter", address=address, service=0x1822, ledger=ledger)
        self.tell_about_itself()
        self._body = Oximetry(seed + 2)
        self._interval_s = interval_s
        self._spot_check_every = spot_check_every
        self.continuous = self.notifying(0x2A5F)
        self.spot_check = self.indicating(0x2A5E)
        self.store = RecordStore(self, self.spot_check, by_number=False) if stores else None
        self.features = _PLX_TIMESTAMP | (plx.STORAGE if stores else 0)
        self.add_service(
            0x1822,
            self.continuous,
            self.spot_check,
            self.readable(0x2A60, lambda: plx.Features(rfu_flags=self.features).encode()),
            *([self.store.control_point] if self.store is not None else ()),
        )

    def subscribed(self) -> list[Characteristic[bytes]]:
        """What somebody listens to."""
        return [channel for channel in (self.continuous, self.spot_check) if self.subscribers(channel)]

    async def run(self) -> None:
        """One value each interval; every tenth is followed by a spot-check."""
        beat = 0
        while True:
            await self.measure()
            beat += 1
            if beat % self._spot_check_every == 0:
                await self.measure_spot()
            await asyncio.sleep(self._interval_s)

    async def measure(self) -> None:
        """One continuous value."""
        saturation, pulse = self._body.step()
        self._note(0x2A5F, "plx", self.continuous, saturation, pulse)
        value = plx.Continuous(spo2_pct=Number(saturation), pr_bpm=Number(pulse))
        await self.notify(self.continuous, value.encode())

    async def measure_spot(self) -> None:
        """One spot-check with the oximeter's time, confirmed by whoever listens."""
        saturation, pulse = self._body.step()
        self._note(0x2A5E, "plx-spot", self.spot_check, saturation, pulse)
        now = DateTime.of(self._ledger.now())
        value = plx.SpotCheck(spo2_pct=Number(saturation), pr_bpm=Number(pulse), timestamp=now)
        if self.store is not None:
            self.store.add(len(self.store), replace(value, measurement_status=plx.FROM_STORAGE).encode())
        for connection in self.subscribers(self.spot_check):
            await self.indicate(connection, self.spot_check, value.encode())

    def _note(
        self, characteristic: int, kind: str, channel: Characteristic[bytes], saturation: int, pulse: int
    ) -> None:
        self._ledger.measured(
            self.address,
            characteristic=characteristic,
            kind=kind,
            values={SPO2: str(saturation), PULSE_RATE: str(pulse)},
            sent_ms=self._ledger.now_ms(),
            linked=bool(self.subscribers(channel)),
        )


def _session_start(moment: datetime) -> bytes:
    zone = moment.utcoffset() or timedelta(0)
    start = cgm.SessionStart(start=DateTime.of(moment), time_zone=zone // timedelta(minutes=15), dst=0)
    return start.encode(e2e_crc=True)
