"""Gateway time: what vouches for the clock is believed, steps are told, and until then times count from the boot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock.keeper import BOOT_ENDS_MS, Believe, Sample, Timekeeper
from gateway.model import Extra, Record, TimeSource

BOOT = b"boot" * 4
NOW_MS = 1_800_000_000_000
RELEASED_MS = NOW_MS - 86_400_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS


def keeper(believe: Believe = "auto") -> Timekeeper:
    return Timekeeper(BOOT, believe=believe, not_before_ms=RELEASED_MS)


def codes(keeper: Timekeeper, sample: Sample) -> list[str]:
    return [event.code for event in keeper.look(sample)]


def ntp(boot_ms: int, wall_ms: int, error_ms: int = 20) -> Sample:
    return Sample(boot_ms, wall_ms, error_ms)


class TestWhatVouches:
    def test_a_time_service_does_whatever_it_shows(self) -> None:
        time = keeper()
        assert codes(time, ntp(1_000, 1_600_000_000_000)) == ["clock-anchor"]
        assert (time.source, time.now_ms(2_000)) == ("ntp", 1_600_000_001_000)

    def test_a_battery_does_if_the_clock_agrees_with_it_and_no_earlier_time_is_known(self) -> None:
        agreeing = Sample(1_000, NOW_MS, battery_ms=NOW_MS - 1_999)
        time = keeper()
        assert codes(time, agreeing) == ["clock-anchor"]
        assert time.source == "battery"
        for wrong in (
            Sample(1_000, NOW_MS, battery_ms=NOW_MS - 2_001),
            Sample(1_000, RELEASED_MS - 1, battery_ms=RELEASED_MS - 1),
            Sample(1_000, NOW_MS),
        ):
            assert keeper().look(wrong) == []

    def test_the_configuration_does_unless_the_clock_is_older_than_this_program(self) -> None:
        time = keeper("system")
        assert codes(time, Sample(1_000, RELEASED_MS - 1)) == []
        assert time.source is None
        assert codes(time, Sample(2_000, RELEASED_MS)) == ["clock-anchor"]
        assert time.source == "system"

    def test_an_unknown_clock_counts_from_the_boot(self) -> None:
        time = keeper()
        assert time.look(Sample(1_000, NOW_MS)) == []
        assert (time.source, time.now_ms(1_234), time.error_ms(1_234), time.utc_ms(1_234)) == (None, 1_234, 0, None)


class TestAnchors:
    def test_the_first_is_told_as_soon_as_the_clock_is_known(self) -> None:
        time = keeper()
        time.look(Sample(1_000, NOW_MS))
        [anchor] = time.look(ntp(61_000, NOW_MS, error_ms=30))
        assert (anchor.time_ms, anchor.details) == (NOW_MS, (BOOT, 61_000, NOW_MS, 30, "ntp"))

    def test_another_is_told_only_if_it_is_much_better(self) -> None:
        time = keeper()
        time.look(Sample(0, NOW_MS, battery_ms=NOW_MS))
        assert time.look(Sample(2_000, NOW_MS + 2_000, battery_ms=NOW_MS + 2_000)) == []
        assert codes(time, ntp(4_000, NOW_MS + 4_000, error_ms=90_000)) == []
        assert codes(time, ntp(6_000, NOW_MS + 6_000, error_ms=10)) == ["clock-anchor"]
        assert codes(time, ntp(8_000, NOW_MS + 8_000, error_ms=9)) == []

    @pytest.mark.parametrize("by_ms", [YEAR_MS, -YEAR_MS, HOUR_MS, -HOUR_MS, 1_001])
    def test_a_step_is_told_with_a_new_anchor_and_time_goes_on_from_there(self, by_ms: int) -> None:
        time = keeper()
        time.look(ntp(1_000, NOW_MS))
        step, anchor = time.look(ntp(3_000, NOW_MS + 2_000 + by_ms))
        assert (step.code, step.details) == ("clock-step", (BOOT, 3_000, by_ms))
        assert anchor.details[:3] == (BOOT, 3_000, NOW_MS + 2_000 + by_ms)
        assert time.now_ms(4_000) == NOW_MS + 3_000 + by_ms

    def test_discipline_is_no_step(self) -> None:
        time = keeper()
        time.look(ntp(0, NOW_MS))
        assert codes(time, ntp(2_000, NOW_MS + 2_900)) == []
        assert time.now_ms(2_000) == NOW_MS + 2_900


class TestHoldover:
    def test_a_clock_that_nothing_vouches_for_any_more_goes_on_and_grows_less_sure(self) -> None:
        time = keeper()
        time.look(ntp(0, NOW_MS, error_ms=30))
        time.look(Sample(HOUR_MS, NOW_MS + HOUR_MS + YEAR_MS))
        assert (time.source, time.now_ms(HOUR_MS)) == ("ntp", NOW_MS + HOUR_MS)
        assert time.error_ms(0) == 32
        assert 390 <= time.error_ms(HOUR_MS) <= 2 * 390

    def test_a_battery_takes_over_only_when_it_is_the_better_one(self) -> None:
        time = keeper()
        time.look(ntp(0, NOW_MS))
        assert codes(time, Sample(2_000, NOW_MS + 62_000, battery_ms=NOW_MS + 62_000)) == []
        assert time.now_ms(2_000) == NOW_MS + 2_000
        wall_ms = NOW_MS + 40 * DAY_MS + 60_000
        assert codes(time, Sample(40 * DAY_MS, wall_ms, battery_ms=wall_ms)) == ["clock-step", "clock-anchor"]
        assert time.source == "battery"


class TestSettling:
    EARLY = Record("dev", 1, 5, 0, 3_000, extras=((int(Extra.SEQUENCE), 7), (int(Extra.CORRECTION_MS), -40)))

    def test_while_the_clock_is_unknown_a_record_is_marked(self) -> None:
        settled = keeper().settle(self.EARLY)
        marks = {Extra.TIME_SOURCE: TimeSource.BOOT, Extra.BOOT: BOOT, Extra.BOOT_MS: 3_000}
        assert (settled.time_ms, dict(settled.extras)) == (3_000, {Extra.SEQUENCE: 7, **marks})
        assert list(settled.extras) == sorted(settled.extras)

    def test_afterwards_it_gets_its_utc(self) -> None:
        time = keeper()
        time.look(ntp(10_000, NOW_MS))
        settled = time.settle(self.EARLY)
        assert settled.time_ms == NOW_MS - 7_000
        assert dict(settled.extras) == {Extra.SEQUENCE: 7, Extra.CORRECTION_MS: NOW_MS - 10_000 - 40}

    @given(time_ms=st.integers(BOOT_ENDS_MS, 2**53 - 1), known=st.booleans())
    def test_a_record_in_utc_stays_as_it_is(self, *, time_ms: int, known: bool) -> None:
        time = keeper()
        if known:
            time.look(ntp(10_000, NOW_MS))
        record = Record("dev", 1, 5, 0, time_ms)
        assert time.settle(record) is record


SAMPLES = st.builds(
    Sample,
    boot_ms=st.integers(0, 3_000_000_000),
    wall_ms=st.integers(0, 4_000_000_000_000),
    error_ms=st.none() | st.integers(0, 20_000),
    battery_ms=st.none() | st.integers(0, 4_000_000_000_000),
)


@given(st.lists(SAMPLES, max_size=12), st.sampled_from(["auto", "system"]))
def test_whatever_the_clocks_do_no_record_is_lost_or_gets_a_time_that_cannot_travel(
    samples: list[Sample], believe: Believe
) -> None:
    time = keeper(believe)
    for sample in sorted(samples, key=lambda each: each.boot_ms):
        for event in time.look(sample):
            assert (event.boot, event.time_ms) == (None, sample.wall_ms)
        now_ms = time.now_ms(sample.boot_ms)
        settled = time.settle(Record("dev", 1, 5, 0, now_ms))
        assert settled.time_ms >= 0
        assert (settled.device, settled.mantissa) == ("dev", 5)
        counts = dict(settled.extras).get(Extra.TIME_SOURCE) == TimeSource.BOOT
        assert counts == (time.source is None)
