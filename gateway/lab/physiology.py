"""What a body might say: seeded series of glucose, oxygen saturation and pulse that move as real ones do.

Simulation for demonstrations and tests, not a model of anybody. The same seed gives the same series.
"""

import math
import random
from dataclasses import dataclass


@dataclass(slots=True)
class _Drift:
    """A value that is drawn back to its target and shaken a little at every step (Ornstein-Uhlenbeck)."""

    value: float
    pull: float
    noise: float
    low: float
    high: float

    def step(self, target: float, rng: random.Random) -> float:
        moved = self.value + self.pull * (target - self.value) + rng.gauss(0.0, self.noise)
        self.value = min(max(moved, self.low), self.high)
        return self.value


class Glucose:
    """Interstitial or blood glucose, mg/dL: a slow rise and fall around meals, 55 to 280, rarely above 2 mg/dL/min."""

    _MEAL_MIN = 240.0
    _RISE_MG_DL = 55.0

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._phase = self._rng.uniform(0.0, 2 * math.pi)
        self._drift = _Drift(value=110.0, pull=0.08, noise=1.0, low=55.0, high=280.0)

    def step(self, minute: float) -> int:
        """The value at `minute` since the series began; minutes never go back."""
        meal = math.sin(2 * math.pi * minute / self._MEAL_MIN + self._phase)
        return round(self._drift.step(115.0 + self._RISE_MG_DL * meal, self._rng))


class Oximetry:
    """Oxygen saturation, %, and pulse rate, beats a minute, of somebody at rest; one step a second."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._saturation = _Drift(value=97.0, pull=0.05, noise=0.25, low=90.0, high=100.0)
        self._pulse = _Drift(value=72.0, pull=0.03, noise=0.8, low=48.0, high=140.0)

    def step(self) -> tuple[int, int]:
        """Saturation and pulse rate one second on."""
        saturation = self._saturation.step(97.0, self._rng)
        # Breathing moves the pulse a little; a lower saturation a little more.
        pulse = self._pulse.step(72.0 + 2.0 * (97.0 - saturation), self._rng)
        return round(saturation), round(pulse)
