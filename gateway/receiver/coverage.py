"""Which numbers of a sequence are here, as maximal runs: bundles of a chain, records of a stream. Sans-IO."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

_FIRST, _LAST = attrgetter("first"), attrgetter("last")


class Run(NamedTuple):
    """The numbers first..last are all here."""

    first: int
    last: int
    hash: bytes = b""
    """Of the bundle `last`; empty for records."""


class Coverage:
    """Runs that neither touch nor overlap, ascending; remembers how they differ from those it began with."""

    __slots__ = ("_before", "runs")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs = sorted(runs)
        self._before = frozenset(self.runs)

    def add(self, new: Run) -> None:
        """Cover the numbers of `new` as well; where `last` is known already, its hash stays."""
        start = bisect_left(self.runs, new.first - 1, key=_LAST)
        end = bisect_right(self.runs, new.last + 1, key=_FIRST)
        touched = self.runs[start:end]
        if touched:
            tail = touched[-1] if touched[-1].last >= new.last else new
            new = Run(min(touched[0].first, new.first), tail.last, tail.hash)
        self.runs[start:end] = [new]

    def containing(self, number: int) -> Run | None:
        """The run that `number` is in."""
        index = bisect_left(self.runs, number, key=_LAST)
        return self.runs[index] if index < len(self.runs) and self.runs[index].first <= number else None

    def overlaps(self, first: int, last: int) -> bool:
        """Whether any of first..last is here."""
        index = bisect_left(self.runs, first, key=_LAST)
        return index < len(self.runs) and self.runs[index].first <= last

    @property
    def last(self) -> int:
        """The highest number that is here, or -1."""
        return self.runs[-1].last if self.runs else -1

    @property
    def changed(self) -> list[Run]:
        """Runs that it did not begin with: new ones, and those that are longer."""
        return [run for run in self.runs if run not in self._before]

    @property
    def gone(self) -> set[int]:
        """Where runs began that it began with, and where none begins any more."""
        return {run.first for run in self._before} - {run.first for run in self.runs}
