"""Runs cover exactly what was added, and know how they differ from what they began with."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.receiver.coverage import Coverage, Run

spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)))


def build(pairs: list[tuple[int, int]]) -> tuple[Coverage, set[int]]:
    coverage = Coverage()
    numbers: set[int] = set()
    for first, more in pairs:
        coverage.add(Run(first, first + more))
        numbers.update(range(first, first + more + 1))
    return coverage, numbers


@given(spans)
def test_it_covers_exactly_what_was_added(pairs: list[tuple[int, int]]) -> None:
    coverage, numbers = build(pairs)
    assert {n for run in coverage.runs for n in range(run.first, run.last + 1)} == numbers
    assert coverage.last == max(numbers, default=-1)


@given(spans)
def test_runs_are_maximal_and_ascending(pairs: list[tuple[int, int]]) -> None:
    coverage, _ = build(pairs)
    assert all(left.last + 1 < right.first for left, right in zip(coverage.runs, coverage.runs[1:], strict=False))


@given(spans, st.integers(0, 45), st.integers(0, 3))
def test_questions_are_answered_from_it(pairs: list[tuple[int, int]], first: int, more: int) -> None:
    coverage, numbers = build(pairs)
    run = coverage.containing(first)
    assert (run is not None) == (first in numbers)
    assert run is None or run.first <= first <= run.last
    assert coverage.overlaps(first, first + more) == bool(numbers & set(range(first, first + more + 1)))


@given(spans, spans)
def test_the_difference_leads_from_the_old_runs_to_the_new(
    before: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    old, _ = build(before)
    new = Coverage(old.runs)
    for first, extra in more:
        new.add(Run(first, first + extra))
    written = {run.first: run for run in old.runs}
    for gone in new.gone:
        del written[gone]
    written |= {run.first: run for run in new.changed}
    assert sorted(written.values()) == new.runs


def test_a_run_carries_the_hash_of_its_last() -> None:
    coverage = Coverage()
    for number in (2, 0, 1):
        coverage.add(Run(number, number, bytes([number])))
    assert coverage.runs == [Run(0, 2, b"\x02")]
