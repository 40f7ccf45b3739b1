"""How long to wait before the next connection. Sans-IO; times are seconds."""

from collections.abc import Callable

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

    def pause_s(self, lived_s: float, *, closed: bool) -> float:
        """After a connection that lived so long, 0 if none came about; `closed`: the broker ended it without a reason.

        That is how many brokers let a second client with the same certificate take over, and none of two such clients
        lives longer than the other pauses: one that was closed was a good one only if it lived longer than any pause.
        """
        if lived_s >= (self._longest_s if closed else _HELD_S):
            self._last_s = _SHORTEST_S
        self._last_s = min(self._longest_s, self._draw(_SHORTEST_S, 3 * self._last_s))
        return self._last_s

    def long_pause_s(self) -> float:
        """After another client with the same certificate took the connection over: only a person can end that."""
        return self._draw(2 * self._longest_s, 10 * self._longest_s)
