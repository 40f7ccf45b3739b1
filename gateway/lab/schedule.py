"""Which fault when: drawn from a seed, so that a run can be done again. Sans-IO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gateway.errors import ConfigError

T = TypeVar("T")


class Chance(Protocol):
    """What is asked of a `random.Random`."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number within a..b."""

    def randrange(self, stop: int, /) -> int:
        """An integer below `stop`."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """`k` members in random order."""

    def choice(self, seq: Sequence[T]) -> T:
        """A member."""


@dataclass(frozen=True, slots=True)
class Cost:
    """How long a fault lasts (drawn from `least_s`..`most_s`), and what it takes beside that until all is well."""

    least_s: float
    most_s: float
    beside_s: float


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of a run: when, how long, and the seed of what it draws itself."""

    name: str
    at_s: float
    hold_s: float
    seed: int


_PAUSE_S = (0.2, 1.0)
_SEEDS = 1 << 32


def shortest_s(costs: Mapping[str, Cost]) -> float:
    """How many seconds are enough to do each fault once, whatever is drawn."""
    return sum(cost.most_s + cost.beside_s + _PAUSE_S[1] for cost in costs.values())


def fitting(costs: Mapping[str, Cost], *, seconds: float, chance: Chance) -> tuple[str, ...]:
    """As many faults, drawn, as there is time to do once."""
    names = sorted(costs)
    left_s = seconds
    fit: list[str] = []
    for name in chance.sample(names, len(names)):
        needed_s = shortest_s({name: costs[name]})
        if needed_s <= left_s:
            left_s -= needed_s
            fit.append(name)
    return tuple(fit)


def plan(costs: Mapping[str, Cost], *, seconds: float, chance: Chance) -> tuple[Planned, ...]:
    """Each fault once, in random order, then more of them as long as the time allows; one after the other.

    Raises `ConfigError` for a time that is too short for that.
    """
    if seconds < shortest_s(costs):
        raise ConfigError(
            f"--seconds {seconds:g} is too short to do each of {len(costs)} faults once: give"
            f" {shortest_s(costs):.0f} or more, or name fewer with --faults"
        )
    names = sorted(costs)
    order = chance.sample(names, len(names))
    planned: list[Planned] = []
    now_s = 0.0
    while True:
        name = order.pop() if order else chance.choice(names)
        cost = costs[name]
        at_s = now_s + chance.uniform(*_PAUSE_S)
        hold_s = chance.uniform(cost.least_s, cost.most_s)
        now_s = at_s + hold_s + cost.beside_s
        if now_s > seconds:
            return tuple(planned)
        planned.append(Planned(name, round(at_s, 3), round(hold_s, 3), chance.randrange(_SEEDS)))
