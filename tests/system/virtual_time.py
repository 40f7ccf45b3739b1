"""An event loop whose clock jumps to the next timer as soon as nothing is left to do: a week passes in seconds."""

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import contextmanager

_REAL_S = 0.05


class _Jumping(selectors.DefaultSelector):
    """Waits for no timer: instead, time moves on. While `held`, something outside the loop works in real time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.held = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if (ready := super().select(0)) or timeout == 0:
            return ready
        if self.held or timeout is None:
            return super().select(_REAL_S)
        self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` counts virtual seconds from 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    @contextmanager
    def held(self) -> Iterator[None]:
        """Time stands still, for what a thread does."""
        self._jumping.held += 1
        try:
            yield
        finally:
            self._jumping.held -= 1
