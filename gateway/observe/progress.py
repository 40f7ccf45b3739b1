"""How a loop, or a thread, says that it gets on, and how others see that it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Pulse:
    """One loop's promises. Until the first it rests: nothing is expected of it."""

    def __init__(self) -> None:
        self._due_s: float | None = None

    def expect(self, within_s: float) -> None:
        """Promise to say something again before so long."""
        self._due_s = time.monotonic() + within_s

    def rest(self) -> None:
        """Promise nothing: what comes next may take as long as others like."""
        self._due_s = None

    def late_s(self) -> float:
        """How long ago it should have said something; 0 if it keeps its promise."""
        due_s = self._due_s
        return 0.0 if due_s is None else max(0.0, time.monotonic() - due_s)

    def watched(self, work: Callable[[], T]) -> Callable[[], T]:
        """`work` that is late from its first moment, and at rest once it ended; for a thread that does nothing else."""

        def watching() -> T:
            self.expect(0.0)
            try:
                return work()
            finally:
                self.rest()

        return watching
