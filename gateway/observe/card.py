"""How long the card, and the room on it, will last at the present pace."""

from collections import deque
from pathlib import Path

_IO = Path("/proc/self/io")
_WINDOW_S = 3600.0
_FEWEST_S = 10.0
YEAR_S = 365.25 * 86_400
_TERABYTE = 1e12


class Pace:
    """The rate of a total over the last hour, or as long as it is known; seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now_s: float, total: int) -> None:
        """Take note of the total at a time."""
        self._samples.append((now_s, total))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - _WINDOW_S:
            self._samples.popleft()

    @property
    def per_s(self) -> float:
        """Growth per second; 0 before there are ten seconds to judge by."""
        if not self._samples:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s - first_s >= _FEWEST_S else 0.0


class Card:
    """What this process does to the card that it writes to.

    `endurance_tbw` are the terabytes that its maker lets it be written.
    """

    def __init__(self, endurance_tbw: float) -> None:
        self._endurance_bytes = endurance_tbw * _TERABYTE
        self._filling = Pace()
        self._wearing = Pace()

    def note(self, now_s: float, *, appended_bytes: int, written_bytes: int) -> None:
        """Take note of what the outbox appended, and of what was written to the card for it, since the start."""
        self._filling.note(now_s, appended_bytes)
        self._wearing.note(now_s, written_bytes)

    def hours_left(self, room_bytes: int) -> float:
        """How long `room_bytes` last without an uplink; infinite while nothing is appended."""
        return _ratio(room_bytes, self._filling.per_s) / 3600

    @property
    def years(self) -> float:
        """How long a new card lasts; infinite while nothing is written."""
        return _ratio(self._endurance_bytes, self._wearing.per_s) / YEAR_S


def _ratio(amount: float, per_s: float) -> float:
    return amount / per_s if per_s > 0 else float("inf")


def written_bytes() -> int:
    """Bytes that this process caused to be sent to the disk (proc(5), io); the file system's journal is not in it."""
    fields = dict(line.split(": ") for line in _IO.read_text(encoding="ascii").splitlines())
    return int(fields["write_bytes"])
