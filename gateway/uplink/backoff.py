"""How long to wait before the next connection. Sans-IO; times are seconds."""

from collections.abc import Callable

from gateway.errors import ClosedByBrokerError, SessionTakenOverError, UplinkError

_SHORTEST_S = 0.25
_HELD_S = 5.0
"""A connection that lived so long was a good one."""


class Backoff:
    """Decorrelated jitter: each pause is drawn between the shortest and three times the one before.

    So a ward that comes back from a power cut spreads over a few seconds at once and further with every refusal (M.
    Brooker, "Exponential Backoff And Jitter", 2015). `draw(low, high)` is `random.uniform`.
    """

    def __init__(self, longest_s: float, draw: Callable[[float, float], float]) -> None:
        self._longest_s = longest_s
        self._draw = draw
        self._last_s = _SHORTEST_S

    def pause_s(self, error: UplinkError, lived_s: float) -> float:
        """After a connection that lived so long, 0 if none came about, and ended by `error`.

        Many brokers give no reason when they let a second client with the same certificate take over, and none of two
        such clients lives longer than the other pauses: a connection that the broker closed was a good one only if it
        lived longer than any pause. Where the reason is known, only a person can mend it.
        """
        if isinstance(error, SessionTakenOverError):
            return self._draw(2 * self._longest_s, 10 * self._longest_s)
        if lived_s >= (self._longest_s if isinstance(error, ClosedByBrokerError) else _HELD_S):
            self._last_s = _SHORTEST_S
        self._last_s = min(self._longest_s, self._draw(_SHORTEST_S, 3 * self._last_s))
        return self._last_s


def first_of(errors: BaseExceptionGroup[UplinkError]) -> UplinkError:
    """Why a connection ended, of all that its tasks raised."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UplinkError)  # noqa: S101 - except* lets nothing else in
    return error
