"""When a certificate is renewed: by two clocks, of which each may lie, and not by a whole fleet at once."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.renewal import Renewal, Validity

DAY = 86_400.0
BORN = 1_790_000_000.0
FORTNIGHT = Validity(BORN, BORN + 14 * DAY)


def found() -> Renewal:
    return Renewal(FORTNIGHT, mono_s=0.0, uniform=random.Random(1).uniform)


def when(renewal: Renewal, wall_s: float, mono_s: float = 0.0) -> float:
    """How many days after this moment it asks first, looking every ten minutes while both clocks run."""
    for step in range(20 * 144):
        if renewal.due(wall_s=wall_s + step * 600, mono_s=mono_s + step * 600):
            return step / 144
    raise AssertionError("never")


def test_a_young_certificate_is_renewed_from_half_its_life_on() -> None:
    assert 7.0 <= when(found(), BORN) <= 8.5


def test_after_a_restart_the_wall_clock_tells_its_age() -> None:
    assert 1.0 <= when(found(), BORN + 6 * DAY) <= 2.5
    assert when(found(), BORN + 9 * DAY) == 0.0
    assert when(found(), BORN + 40 * DAY) == 0.0


def test_a_clock_before_its_birth_tells_nothing_so_it_is_renewed_soon() -> None:
    assert when(found(), 0.0) <= 0.02


def test_one_that_was_just_obtained_is_young_whatever_the_wall_clock_says() -> None:
    renewal = found()
    renewal.renewed(FORTNIGHT, mono_s=1000.0)
    assert 7.0 <= when(renewal, 0.0, 1000.0) <= 8.5
    renewal.renewed(FORTNIGHT, mono_s=1000.0)
    wrong = when(renewal, BORN + 400 * DAY, 1000.0)
    assert 0.6 <= wrong <= 0.8, "a clock far ahead asks again, but not in a loop"


def test_a_clock_that_stands_still_or_runs_backwards_delays_nothing() -> None:
    renewal = found()
    assert not renewal.due(wall_s=BORN, mono_s=6 * DAY)
    assert renewal.due(wall_s=BORN, mono_s=8.5 * DAY)


def test_a_failure_is_tried_again_later_and_later_but_every_hour_at_least() -> None:
    renewal = found()
    mono_s, pauses = 10 * DAY, []
    for _ in range(12):
        assert renewal.due(wall_s=BORN + 10 * DAY, mono_s=mono_s)
        renewal.failed(mono_s=mono_s)
        pause = next(p for p in range(1, 4000) if renewal.due(wall_s=BORN + 10 * DAY, mono_s=mono_s + p))
        pauses.append(pause)
        mono_s += pause
    assert pauses[0] <= 60
    assert 1800 <= pauses[-1] <= 3600


def test_a_server_that_names_a_time_is_not_asked_before() -> None:
    renewal = found()
    renewal.failed(mono_s=0.0, retry_after_s=7200.0)
    assert not renewal.due(wall_s=BORN + 13 * DAY, mono_s=7199.0)
    assert renewal.due(wall_s=BORN + 13 * DAY, mono_s=7200.0)


def test_a_fleet_spreads_over_a_tenth_of_the_life() -> None:
    days = [when(Renewal(FORTNIGHT, mono_s=0.0, uniform=random.Random(seed).uniform), BORN) for seed in range(40)]
    assert max(days) - min(days) > 1.0


@given(st.lists(st.floats(min_value=-2e9, max_value=2e9), max_size=8), st.integers(0, 1 << 30))
def test_whatever_the_wall_clock_does_it_is_renewed_before_it_ends(jumps: list[float], seed: int) -> None:
    renewal = Renewal(FORTNIGHT, mono_s=0.0, uniform=random.Random(seed).uniform)
    renewal.renewed(FORTNIGHT, mono_s=0.0)
    wall_s = BORN
    for hour in range(14 * 24):
        if hour % 40 == 0 and jumps:
            wall_s += jumps.pop()
        if renewal.due(wall_s=wall_s + hour * 3600, mono_s=hour * 3600.0):
            return
    raise AssertionError("it ended unrenewed")


def test_a_ca_that_names_a_window_is_obeyed_by_both_clocks() -> None:
    renewal = found()
    renewal.advise(BORN + 2 * DAY, BORN + 3 * DAY)
    assert 2.0 <= when(renewal, BORN) <= 3.1
    renewal = found()
    renewal.renewed(FORTNIGHT, mono_s=0.0)
    renewal.advise(BORN + 2 * DAY, BORN + 3 * DAY)
    assert 2.0 <= when(renewal, 0.0) <= 3.1
    renewal.advise(BORN - 2 * DAY, BORN - DAY)
    assert renewal.due(wall_s=BORN, mono_s=DAY), "a window in the past: at once"


def test_the_same_advice_again_draws_no_other_time() -> None:
    times = set()
    for _ in range(3):
        renewal = found()
        for _ in range(50):
            renewal.advise(BORN + 2 * DAY, BORN + 12 * DAY)
        times.add(when(renewal, BORN))
    assert len(times) == 1


def test_no_advice_lets_a_certificate_end_and_it_ends_with_the_certificate() -> None:
    renewal = found()
    renewal.advise(BORN + 100 * DAY, BORN + 200 * DAY)
    assert when(renewal, BORN) <= 0.9 * 14 + 0.1
    renewal.renewed(FORTNIGHT, mono_s=0.0)
    assert 7.0 <= when(renewal, BORN) <= 8.5
