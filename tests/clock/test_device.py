"""What a wearable's time means, from looks at its clock: across drift, settings, time zones and empty batteries."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock.device import DeviceClock, Look

NOW_MS = 1_800_000_000_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
YEAR_MS = 365 * DAY_MS
ERROR_MS = 1_050


def look(gateway_ms: int, offset_ms: int) -> Look:
    return Look(gateway_ms - offset_ms, gateway_ms, ERROR_MS)


class TestOneSetting:
    def test_the_offset_is_added_with_what_it_may_be_off(self) -> None:
        clock = DeviceClock.new(look(NOW_MS, -HOUR_MS))
        meant = clock.correct(NOW_MS, now_ms=NOW_MS, resolution_ms=1_000)
        assert meant
        assert (meant.time_ms, meant.doubtful) == (NOW_MS - HOUR_MS, False)
        assert meant.uncertainty_ms == ERROR_MS + 1_000 + HOUR_MS * 150 // 1_000_000

    @pytest.mark.parametrize("offset_ms", [26 * YEAR_MS, -26 * YEAR_MS, 0])
    def test_a_clock_that_was_never_set_is_as_good_as_any(self, offset_ms: int) -> None:
        clock = DeviceClock.new(look(NOW_MS, offset_ms))
        meant = clock.correct(NOW_MS - offset_ms - DAY_MS, now_ms=NOW_MS, resolution_ms=1_000)
        assert meant
        assert meant.time_ms == NOW_MS - DAY_MS

    def test_a_time_in_the_future_is_of_no_setting_that_was_seen(self) -> None:
        clock = DeviceClock.new(look(NOW_MS, 0))
        assert clock.correct(NOW_MS + 2 * MINUTE_MS, now_ms=NOW_MS, resolution_ms=1_000)
        assert clock.correct(NOW_MS + 2 * MINUTE_MS + 1, now_ms=NOW_MS, resolution_ms=1_000) is None

    def test_between_two_looks_what_has_changed_is_shared_out(self) -> None:
        clock = DeviceClock.new(look(NOW_MS - 10 * DAY_MS, 0)).seen(look(NOW_MS, -100_000))
        assert clock.before is None
        meant = clock.correct(NOW_MS - 5 * DAY_MS + 50_000, now_ms=NOW_MS, resolution_ms=0)
        assert meant
        assert (meant.time_ms, meant.uncertainty_ms) == (NOW_MS - 5 * DAY_MS, 2 * ERROR_MS + 100_000 + 129_615)

    def test_looks_of_one_connection_count_as_one(self) -> None:
        clock = DeviceClock.new(look(NOW_MS - 8 * HOUR_MS, 0)).seen(look(NOW_MS - 2 * MINUTE_MS, -500))
        clock = clock.seen(look(NOW_MS - MINUTE_MS, -500)).seen(look(NOW_MS, -500))
        assert clock.previous == look(NOW_MS - 8 * HOUR_MS, 0)
        meant = clock.correct(NOW_MS - 4 * HOUR_MS, now_ms=NOW_MS, resolution_ms=0)
        assert meant
        assert meant.uncertainty_ms == 2 * ERROR_MS + 500 + 4_320


class TestDrift:
    def test_it_is_told_once_it_was_watched_for_days(self) -> None:
        clock = DeviceClock.new(look(NOW_MS, 0))
        assert clock.seen(look(NOW_MS + DAY_MS, -5_000)).drift_ppm is None
        drift = clock.seen(look(NOW_MS + 10 * DAY_MS, -50_000)).drift_ppm
        assert drift == pytest.approx(57.9, abs=0.1)

    def test_thirteen_seconds_a_day_are_drift_and_more_is_a_clock_that_was_set(self) -> None:
        clock = DeviceClock.new(look(NOW_MS, 0))
        assert clock.seen(look(NOW_MS + DAY_MS, 13_000)).before is None
        assert clock.seen(look(NOW_MS + DAY_MS, 16_000)).before == clock.last


class TestAClockThatWasSet:
    """Seen a day ago and now; in between somebody set it, or its battery ran out."""

    @staticmethod
    def clock(older_ms: int, newer_ms: int) -> DeviceClock:
        return DeviceClock.new(look(NOW_MS - DAY_MS, older_ms)).seen(look(NOW_MS, newer_ms))

    @pytest.mark.parametrize("newer_ms", [26 * YEAR_MS, -YEAR_MS, YEAR_MS])
    def test_by_more_than_the_time_between_looks_tells_before_from_after(self, newer_ms: int) -> None:
        clock = self.clock(0, newer_ms)
        for true_ms, offset_ms in ((NOW_MS - 20 * HOUR_MS, 0), (NOW_MS - 2 * HOUR_MS, newer_ms)):
            meant = clock.correct(true_ms - offset_ms, now_ms=NOW_MS, resolution_ms=1_000)
            assert meant
            assert (meant.time_ms, meant.doubtful) == (true_ms, False)

    @pytest.mark.parametrize("newer_ms", [HOUR_MS, -HOUR_MS])
    def test_by_an_hour_as_summer_begins_and_ends_leaves_that_hour_open(self, newer_ms: int) -> None:
        clock = self.clock(0, newer_ms)
        for true_ms, offset_ms in ((NOW_MS - 12 * HOUR_MS, 0), (NOW_MS - 2 * HOUR_MS, newer_ms)):
            meant = clock.correct(true_ms - offset_ms, now_ms=NOW_MS, resolution_ms=1_000)
            assert meant
            assert meant.doubtful
            assert abs(meant.time_ms - true_ms) <= meant.uncertainty_ms <= HOUR_MS + 25_000

    def test_by_minutes_is_no_reason_for_doubt_but_for_uncertainty(self) -> None:
        meant = self.clock(0, -2 * MINUTE_MS).correct(NOW_MS - 12 * HOUR_MS, now_ms=NOW_MS, resolution_ms=1_000)
        assert meant
        assert not meant.doubtful
        assert meant.uncertainty_ms >= 2 * MINUTE_MS

    def test_a_time_that_fits_neither_setting_means_nothing(self) -> None:
        clock = self.clock(0, 26 * YEAR_MS)
        assert clock.correct(NOW_MS + 3 * DAY_MS, now_ms=NOW_MS, resolution_ms=1_000) is None


@dataclass
class Device:
    """A clock with a drift, which is set once: `set_ms` after the start, by `by_ms`."""

    zone_ms: int
    drift_ppm: int
    set_ms: int
    by_ms: int

    def shows(self, elapsed_ms: int) -> int:
        """To the second, as devices do."""
        moved = self.by_ms if elapsed_ms >= self.set_ms else 0
        exact = NOW_MS + elapsed_ms + elapsed_ms * self.drift_ppm // 1_000_000 + self.zone_ms + moved
        return exact // 1_000 * 1_000


DEVICES = st.builds(
    Device,
    zone_ms=st.integers(-56, 56).map(lambda quarters: quarters * 15 * MINUTE_MS) | st.just(-26 * YEAR_MS),
    drift_ppm=st.integers(-150, 150),
    set_ms=st.integers(0, 30 * DAY_MS),
    by_ms=st.sampled_from([0, HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS, -26 * YEAR_MS, 90_000])
    | st.integers(-10 * MINUTE_MS, 10 * MINUTE_MS)
    | st.integers(-2 * DAY_MS, 2 * DAY_MS),
)


@given(
    device=DEVICES,
    looks=st.lists(st.integers(0, 30 * DAY_MS), min_size=1, max_size=6, unique=True).map(sorted),
    measured=st.integers(0, 30 * DAY_MS),
    way_ms=st.integers(0, 500),
)
def test_a_time_lies_within_its_uncertainty_wherever_the_clock_was_set(
    device: Device, looks: list[int], measured: int, way_ms: int
) -> None:
    """A record is fetched right after the last look, and was measured since the first one."""
    clock: DeviceClock | None = None
    for elapsed_ms in looks:
        seen = Look(device.shows(elapsed_ms), NOW_MS + elapsed_ms + way_ms // 2, 1_000 + way_ms)
        clock = clock.seen(seen) if clock else DeviceClock.new(seen)
    assert clock
    if not looks[0] <= measured <= looks[-1]:
        return
    now_ms = NOW_MS + looks[-1] + way_ms
    meant = clock.correct(device.shows(measured), now_ms=now_ms, resolution_ms=1_000)
    assert meant
    assert abs(meant.time_ms - (NOW_MS + measured)) <= meant.uncertainty_ms
