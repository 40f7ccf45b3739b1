"""What to do about a link, or an adapter, that does not work: the decisions. Sans-IO.

Times are seconds of any clock that never goes back.
"""

from collections.abc import Callable
from enum import Enum

_FIRST_RETRY_S = 0.25
_UNIT_AFTER_RESETS = 1
"""Resets through BlueZ before the root unit is asked: what did not help once seldom helps twice."""
_RESET_MAX_S = 3600.0


class LinkState(Enum):
    """Where a wearable's link stands."""

    UNASSIGNED = "unassigned"
    """Nobody was told whose readings these are: no link, no data."""
    UNPAIRED = "unpaired"
    """Assigned, and waiting for a person to pair it."""
    DOWN = "link-down"
    UP = "link-up"
    BOND_LOST = "bond-lost"
    """One side's keys are gone; it is tried again at the slowest pace, and never paired again by itself."""
    QUARANTINED = "quarantined"
    """It is not what it was, or contradicts itself; a person decides."""


class LinkMachine:
    """One wearable's link: when to try next, and whether it has been silent for too long.

    `jitter` gives a factor from 0.5 to 1 for each pause. `silent_s`: how long a link may be up without a value, None
    for a wearable that speaks when it has something to say.
    """

    def __init__(
        self, state: LinkState, *, retry_max_s: float, silent_s: float | None, jitter: Callable[[], float]
    ) -> None:
        self.state = state
        self.next_try = 0.0
        self._retry_max_s = retry_max_s
        self._silent_s = silent_s
        self._jitter = jitter
        self._pause_s = _FIRST_RETRY_S
        self.silent_at: float | None = None
        """When a link that stays without a value counts as silent."""

    @property
    def due(self) -> bool:
        """A link is wanted and there is none."""
        return self.state in (LinkState.DOWN, LinkState.BOND_LOST)

    def up(self, now: float) -> None:
        """The link is there and secure."""
        self.state = LinkState.UP
        self.heard(now)

    def heard(self, now: float) -> None:
        """The wearable said something."""
        self.silent_at = None if self._silent_s is None else now + self._silent_s

    def down(self, now: float) -> None:
        """The link has ended or was not made. A pause that doubles until one succeeds."""
        if self.state is LinkState.UP:
            self._pause_s = _FIRST_RETRY_S
        self.state = LinkState.DOWN
        self._wait(now)

    def bond_lost(self, now: float) -> None:
        """One side does not know the other any more."""
        self.state = LinkState.BOND_LOST
        self._pause_s = max(self._pause_s, self._retry_max_s / 2)
        self._wait(now)

    def _wait(self, now: float) -> None:
        self.silent_at = None
        self.next_try = now + self._pause_s * self._jitter()
        self._pause_s = min(2 * self._pause_s, self._retry_max_s)


class Remedy(Enum):
    """What may bring a silent adapter back."""

    RESET = "adapter-reset"
    """Off and on, through BlueZ."""
    UNIT = "adapter-reset-unit"
    """The root unit that takes the device down and up."""


class AdapterWatchdog:
    """Suspects an adapter that hears nothing at all while wearables are due; each remedy doubles its patience.

    `silent_s`: how long it may hear nothing before the first remedy. Anything heard restores its trust.
    """

    def __init__(self, *, silent_s: float, now: float) -> None:
        self._silent_s = silent_s
        self._patience_s = silent_s
        self._since = now
        self._resets = 0

    def heard(self, now: float) -> None:
        """An advertisement: it works."""
        self._since = now
        self._patience_s = self._silent_s
        self._resets = 0

    def look(self, now: float, *, due: bool) -> Remedy | None:
        """What to do now, if anything; `due`: somebody should be heard, and nobody is linked."""
        if not due:
            self._since = now
            return None
        if now - self._since < self._patience_s:
            return None
        self._since = now
        self._patience_s = min(2 * self._patience_s, _RESET_MAX_S)
        self._resets += 1
        return Remedy.RESET if self._resets <= _UNIT_AFTER_RESETS else Remedy.UNIT
