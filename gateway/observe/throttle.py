"""Keeps what repeats out of the log: one line for each subject and interval, with how many it stands for."""

from typing import Final

_MOST_SUBJECTS: Final = 1024
"""From so many on, those are forgotten whose interval is over."""


class Throttle:
    """Times are seconds of any monotonic clock."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._quiet: dict[tuple[str, ...], tuple[float, int]] = {}
        """Subject to the end of its interval and what was kept back since it began."""

    def admit(self, subject: tuple[str, ...], now_s: float) -> int:
        """How many occurrences a line about `subject` stands for, this one included; 0: write none now."""
        if len(self._quiet) >= _MOST_SUBJECTS:
            self._quiet = {each: state for each, state in self._quiet.items() if state[0] > now_s}
        until_s, kept_back = self._quiet.get(subject, (now_s, 0))
        if now_s < until_s:
            self._quiet[subject] = until_s, kept_back + 1
            return 0
        self._quiet[subject] = now_s + self._interval_s, 0
        return kept_back + 1
