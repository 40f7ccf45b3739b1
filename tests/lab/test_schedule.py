"""The schedule: the same for the same seed, complete, in order, and within its time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.lab.schedule import Cost, fitting, plan, shortest_s

COSTS = {"cut": Cost(2, 4, 1), "kill": Cost(1, 3, 3), "hole": Cost(5, 10, 2)}


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    first, again, other = (plan(COSTS, seconds=120, chance=random.Random(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_the_order_in_which_faults_are_named_makes_no_difference() -> None:
    backwards = dict(reversed(COSTS.items()))
    assert plan(COSTS, seconds=60, chance=random.Random(1)) == plan(backwards, seconds=60, chance=random.Random(1))


@given(st.integers(0, 1 << 64), st.floats(0, 1000))
def test_each_fault_comes_at_least_once_and_one_after_the_other_within_the_time(seed: int, extra_s: float) -> None:
    seconds = shortest_s(COSTS) + extra_s
    planned = plan(COSTS, seconds=seconds, chance=random.Random(seed))
    assert {each.name for each in planned} == COSTS.keys()
    end_s = 0.0
    for each in planned:
        cost = COSTS[each.name]
        assert each.at_s > end_s
        assert cost.least_s <= each.hold_s <= cost.most_s
        end_s = each.at_s + each.hold_s + cost.beside_s
    assert end_s <= seconds + 0.01


def test_a_long_time_is_filled() -> None:
    planned = plan(COSTS, seconds=600, chance=random.Random(1))
    assert len(planned) > 40
    assert planned[-1].at_s > 570


def test_a_time_too_short_to_do_each_once_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="give 26 or more, or name fewer with --faults"):
        plan(COSTS, seconds=25, chance=random.Random(1))


@given(st.integers(0, 1 << 64), st.floats(0, 30))
def test_of_every_fault_as_many_are_drawn_as_there_is_time_for(seed: int, seconds: float) -> None:
    fit = fitting(COSTS, seconds=seconds, chance=random.Random(seed))
    assert shortest_s({name: COSTS[name] for name in fit}) <= seconds
    left = [shortest_s({name: cost}) for name, cost in COSTS.items() if name not in fit]
    assert not left or min(left) > seconds - shortest_s({name: COSTS[name] for name in fit})
    assert fit == fitting(COSTS, seconds=seconds, chance=random.Random(seed))
