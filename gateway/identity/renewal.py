"""Sans-IO: when a certificate is renewed. Both clocks decide, as either may lie.

`wall_s` is seconds since 1970 and may jump; `mono_s` counts only up and begins anew with each boot. Of a certificate
that was obtained in this life the age is known by the second; of one that was found on the disk only by the first.
"""

from collections.abc import Callable
from dataclasses import dataclass

_HALF, _SPREAD = 0.5, 0.1
"""Of its life a certificate has seen this much, plus up to so much more, when it is renewed."""
_LATEST = 0.9
"""Of its life that may have passed, whatever a CA advises."""
_UNKNOWN_AGE_S = 600.0
"""Within which a certificate is renewed whose age cannot be told: the wall clock is before its birth."""
_RETRY_MIN_S, _RETRY_MAX_S = 60.0, 3600.0
_WALL_EVERY = 0.05
"""Of its life that must have passed since the last renewal before the wall clock alone may ask for another."""


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate may be used, in seconds since 1970."""

    not_before_s: float
    not_after_s: float

    @property
    def life_s(self) -> float:
        """From birth to end."""
        return self.not_after_s - self.not_before_s


class Renewal:
    """The decision for one certificate after the other; `uniform(a, b)` spreads a fleet."""

    def __init__(self, validity: Validity, *, mono_s: float, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._failures = 0
        self._advised: tuple[float, float] | None = None
        self._not_before_s = mono_s
        """Of the monotonic clock: no attempt earlier."""
        self._begin(validity, mono_s)
        self._obtained = False

    def renewed(self, validity: Validity, *, mono_s: float) -> None:
        """A certificate was obtained just now."""
        self._begin(validity, mono_s)
        self._obtained = True
        self._failures = 0
        self._not_before_s = mono_s + _WALL_EVERY * validity.life_s

    def advise(self, start_s: float, end_s: float) -> None:
        """The CA wants this certificate renewed between these times, in seconds since 1970."""
        if (start_s, end_s) == self._advised:
            return
        self._advised = start_s, end_s
        age_s = self._uniform(start_s, end_s) - self._validity.not_before_s
        self._fraction = min(_LATEST, age_s / self._validity.life_s)

    def failed(self, *, mono_s: float, retry_after_s: float = 0.0) -> None:
        """An attempt failed; the next one comes later, and not all boxes at once."""
        pause_s = min(_RETRY_MAX_S, _RETRY_MIN_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._not_before_s = mono_s + max(retry_after_s, self._uniform(0.5, 1.0) * pause_s)

    def due(self, *, wall_s: float, mono_s: float) -> bool:
        """Whether to ask for the next certificate now."""
        if mono_s < self._not_before_s:
            return False
        by_mono = mono_s >= self._since_s + self._fraction * self._validity.life_s
        by_wall = wall_s >= self._validity.not_before_s + self._fraction * self._validity.life_s
        unknown = (
            not self._obtained
            and wall_s < self._validity.not_before_s
            and mono_s >= self._since_s + self._fraction_of_unknown_s
        )
        return by_mono or by_wall or unknown

    def _begin(self, validity: Validity, mono_s: float) -> None:
        self._validity = validity
        self._since_s = mono_s
        self._fraction = _HALF + self._uniform(0.0, _SPREAD)
        self._advised = None
        self._fraction_of_unknown_s = self._uniform(0.0, _UNKNOWN_AGE_S)
