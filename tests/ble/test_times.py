"""When a wearable measured: by its clock as compared with ours, by its word, or by arrival, and how sure that is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble.profiles.times import DeviceTimes, When, as_utc_ms
from gateway.clock.book import ClockBook
from gateway.clock.device import Look
from gateway.clock.keeper import BOOT_ENDS_MS, Sample
from gateway.clock.system import Clock, SystemClocks
from gateway.errors import ConfigError, LinkError
from gateway.health.clock import CurrentTime, DeviceTime
from gateway.health.date_time import DateTime
from gateway.health.reading import in_order
from gateway.model import Extra, Reason, Record, TimeSource

ADDRESS = "F0:00:00:00:07:01"
NOW = datetime(2027, 3, 1, 12, 0, 0)  # noqa: DTZ001 - a device's local time
NOW_MS = as_utc_ms(NOW)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BOOT_MS = 40_000


class Bench:
    """A device on a bench: what its clock shows, and a gateway beside it."""

    def __init__(self, directory: Path, *, known: bool = True) -> None:
        self.path = directory / "clocks.json"
        self.now_ms = NOW_MS
        self.known = known
        self.shows: dict[int, bytes] = {}
        self.restart()

    def restart(self) -> None:
        """A new process, after a new boot; it knows what the last one has kept."""
        system = SystemClocks(boot=b"b" * 16, boot_ms=lambda: self.now_ms - NOW_MS + BOOT_MS, sample=self._sample)
        self.clock = Clock.start("auto", not_before_ms=0, clocks=system)
        self.clock.look()
        self.book = ClockBook.load(self.path)
        self.times = DeviceTimes(ADDRESS, self.clock, self.book)

    def _sample(self) -> Sample:
        return Sample(self.now_ms - NOW_MS + BOOT_MS, self.now_ms, 8 if self.known else None)

    async def read(self, characteristic: int) -> bytes | None:
        return self.shows.get(characteristic)

    async def look(self, shown: datetime, *, characteristic: int = 0x2A2B) -> None:
        """Connect while the device shows this."""
        clock = CurrentTime.of(shown) if characteristic == 0x2A2B else DeviceTime(date_time=DateTime.of(shown))
        self.shows = {characteristic: clock.encode()}
        await self.times.look(self.read)

    def stamped(self, moment: datetime) -> When:
        return self.times.stamped(moment, self.clock.now_ms())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def source(when: When) -> object:
    return when.extras[Extra.TIME_SOURCE]


@pytest.mark.parametrize("characteristic", [0x2A2B, 0x2A08])
async def test_a_clock_that_can_be_read_corrects_every_time_of_its_device(bench: Bench, characteristic: int) -> None:
    await bench.look(NOW + timedelta(minutes=58), characteristic=characteristic)
    when = bench.stamped(NOW - timedelta(hours=5))
    assert when.time_ms == NOW_MS - 5 * HOUR_MS - 58 * 60_000
    assert when.extras == {
        Extra.TIME_SOURCE: TimeSource.DEVICE_CORRECTED,
        Extra.UNCERTAINTY_MS: 1_000 + 16 + 1_000 + (5 * HOUR_MS + 58 * 60_000) * 150 // 1_000_000,
        Extra.DEVICE_TIME: "2027-03-01T07:00:00",
        Extra.CORRECTION_MS: -58 * 60_000,
    }
    assert when.reasons == Reason.NONE


@pytest.mark.parametrize(
    ("off", "noted"),
    [
        (timedelta(hours=1), False),
        (timedelta(hours=-9, minutes=-30), False),
        (timedelta(hours=2, minutes=4), False),
        (timedelta(minutes=7), True),
        (timedelta(days=365), True),
        (timedelta(days=-365), True),
        (datetime(2000, 1, 1) - NOW, True),  # noqa: DTZ001 - a device's local time
    ],
)
async def test_a_clock_that_no_zone_explains_is_noted_and_its_times_are_right(
    bench: Bench, off: timedelta, *, noted: bool
) -> None:
    await bench.look(NOW + off)
    when = bench.stamped(NOW + off - timedelta(minutes=3))
    assert (when.time_ms, source(when)) == (NOW_MS - 180_000, TimeSource.DEVICE_CORRECTED)
    assert when.reasons == (Reason.CLOCK_WRONG if noted else Reason.NONE)


async def test_records_from_before_the_battery_ran_out_and_from_after_it_are_both_timed_right(bench: Bench) -> None:
    await bench.look(NOW)
    bench.now_ms += DAY_MS
    bench.restart()
    reset = datetime(2000, 1, 1, 4)  # noqa: DTZ001 - a device's local time
    await bench.look(reset)
    before, after = bench.stamped(NOW + timedelta(hours=10)), bench.stamped(reset - timedelta(hours=2))
    assert (before.time_ms, before.reasons) == (NOW_MS + 10 * HOUR_MS, Reason.NONE)
    assert (after.time_ms, after.reasons) == (NOW_MS + DAY_MS - 2 * HOUR_MS, Reason.CLOCK_WRONG)


async def test_a_leap_day_is_a_day(bench: Bench) -> None:
    leap = datetime(2028, 2, 29, 23, 59, 59)  # noqa: DTZ001 - a device's local time
    bench.now_ms = as_utc_ms(leap) + 1_000
    bench.restart()
    await bench.look(leap + timedelta(seconds=1))
    assert bench.stamped(leap).time_ms == as_utc_ms(leap)
    assert bench.stamped(leap - timedelta(days=1)).time_ms == as_utc_ms(leap) - DAY_MS


async def test_an_hour_that_occurs_twice_is_doubtful_and_within_its_uncertainty(bench: Bench) -> None:
    await bench.look(NOW)
    bench.now_ms += DAY_MS
    await bench.look(NOW + timedelta(hours=23))
    for true_ms, shown in ((NOW_MS + 12 * HOUR_MS, 12), (NOW_MS + 20 * HOUR_MS, 19)):
        when = bench.stamped(NOW + timedelta(hours=shown))
        uncertainty_ms = when.extras[Extra.UNCERTAINTY_MS]
        assert isinstance(uncertainty_ms, int)
        assert abs(when.time_ms - true_ms) <= uncertainty_ms
        assert when.reasons & Reason.TIME_DOUBTFUL


async def test_a_device_without_a_clock_to_read_is_taken_at_its_word_in_any_zone(bench: Bench) -> None:
    await bench.times.look(bench.read)
    when = bench.stamped(NOW - timedelta(days=3))
    assert (when.time_ms, source(when)) == (NOW_MS - 3 * DAY_MS, TimeSource.DEVICE)
    assert when.extras[Extra.UNCERTAINTY_MS] == 14 * HOUR_MS
    assert when.reasons == Reason.NONE


@pytest.mark.parametrize("moment", [datetime(2009, 12, 31), NOW + timedelta(hours=15)])  # noqa: DTZ001 - as above
async def test_a_word_that_cannot_be_true_is_kept_and_not_believed(bench: Bench, moment: datetime) -> None:
    when = bench.stamped(moment)
    assert (when.time_ms, source(when)) == (NOW_MS, TimeSource.RECEIVED)
    assert when.extras[Extra.DEVICE_TIME] == moment.isoformat()
    assert when.reasons == Reason.TIME_DOUBTFUL


async def test_a_time_that_fits_no_setting_of_its_clock_is_doubtful(bench: Bench) -> None:
    await bench.look(datetime(2000, 1, 1, 4))  # noqa: DTZ001 - a device's local time
    when = bench.stamped(NOW - timedelta(days=3))
    assert (source(when), when.reasons) == (TimeSource.DEVICE, Reason.TIME_DOUBTFUL)


@pytest.mark.parametrize("octets", [b"", b"\xff" * 10, CurrentTime.of(NOW).encode()[:7] + b"\x09\x00\x00"])
async def test_a_clock_that_makes_no_sense_costs_no_value(bench: Bench, octets: bytes) -> None:
    bench.shows = {0x2A2B: octets}
    await bench.times.look(bench.read)
    assert source(bench.stamped(NOW)) == TimeSource.DEVICE


async def test_while_the_gateways_clock_is_unknown_a_devices_times_count_from_the_boot(tmp_path: Path) -> None:
    bench = Bench(tmp_path, known=False)
    await bench.look(NOW + timedelta(days=365))
    when = bench.stamped(NOW + timedelta(days=365) - timedelta(hours=1))
    assert (when.time_ms, when.reasons) == (BOOT_MS - HOUR_MS, Reason.NONE)
    assert not bench.path.exists()


async def test_how_clocks_stood_is_known_after_a_restart(bench: Bench) -> None:
    await bench.look(NOW - timedelta(hours=2))
    bench.now_ms += 10 * DAY_MS
    bench.restart()
    await bench.look(NOW + timedelta(days=10) - timedelta(hours=2, seconds=-100))
    bench.restart()
    known = bench.book.get(ADDRESS)
    assert known
    assert known.drift_ppm == pytest.approx(115.7, abs=0.1)
    when = bench.stamped(NOW)
    assert source(when) == TimeSource.DEVICE


async def test_a_clock_is_not_written_at_every_look(bench: Bench) -> None:
    await bench.look(NOW)
    bench.path.unlink()
    bench.now_ms += 5 * HOUR_MS
    await bench.look(NOW + timedelta(hours=5))
    assert not bench.path.exists()
    bench.now_ms += HOUR_MS
    await bench.look(NOW + timedelta(hours=6))
    assert bench.path.stat().st_mode & 0o077 == 0


async def test_a_clock_that_cannot_be_noted_ends_the_link(bench: Bench) -> None:
    bench.path.with_name("clocks.json.new").mkdir()
    with pytest.raises(LinkError, match="its clock cannot be noted"):
        await bench.look(NOW)


async def test_after_the_gateways_own_clock_was_set_all_clocks_are_seen_anew(bench: Bench) -> None:
    await bench.look(NOW)
    bench.book.forget()
    await bench.look(NOW + timedelta(days=365))
    known = bench.book.get(ADDRESS)
    assert known
    assert known.before is None


def test_a_damaged_book_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "clocks.json"
    path.write_text('{"schema": 1, "clocks": {"F0": 3}}')
    with pytest.raises(ConfigError, match=r"clocks\.json: is damaged; remove it"):
        ClockBook.load(path)


def test_an_arrival_is_as_sure_as_the_gateways_clock(bench: Bench) -> None:
    when = bench.times.arrived(NOW_MS)
    assert when.extras == {Extra.TIME_SOURCE: TimeSource.RECEIVED, Extra.UNCERTAINTY_MS: 1_000 + 16}


def test_local_times_are_taken_as_if_they_were_utc() -> None:
    assert as_utc_ms(NOW) == int(NOW.replace(tzinfo=UTC).timestamp() * 1000)


MOMENTS = st.datetimes(min_value=datetime(1583, 1, 1), max_value=datetime(9998, 1, 1))  # noqa: DTZ001 - local times


@given(shown=st.none() | MOMENTS, before=st.none() | MOMENTS, moment=MOMENTS, known=st.booleans())
def test_whatever_a_device_says_its_reading_gets_a_time_that_can_travel(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    shown: datetime | None,
    before: datetime | None,
    moment: datetime,
    known: bool,
) -> None:
    bench = Bench(tmp_path_factory.mktemp("bench"), known=known)
    for seen in (before, shown):
        if seen is not None:
            bench.now_ms += DAY_MS
            bench.times.compared(Look(as_utc_ms(seen), bench.clock.now_ms(), 1_000))
    when = bench.stamped(moment)
    settled = bench.clock.settle(Record(ADDRESS, 1, 5, 0, when.time_ms, extras=in_order(when.extras)))
    assert 0 <= settled.time_ms < 2**53
    assert dict(settled.extras)[Extra.DEVICE_TIME] == moment.isoformat()
    counts = dict(settled.extras)[Extra.TIME_SOURCE] == TimeSource.BOOT
    assert counts == (when.time_ms < BOOT_ENDS_MS)
    assert not (counts and known)
