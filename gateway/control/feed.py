"""Who listens to what happens, as server-sent events (WHATWG HTML, "Server-sent events")."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
_WAITING = 1_000


class Feed(Generic[T]):
    """Gives each listener everything published while it listens; one that does not keep up misses the oldest."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[T]] = set()

    def publish(self, item: T) -> None:
        """Tell everybody who listens now."""
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(item)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[T]]:
        """What is published while entered."""
        queue: asyncio.Queue[T] = asyncio.Queue(_WAITING)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


def server_sent(name: str, data: Mapping[str, object]) -> bytes:
    """One event on the wire."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


STILL_HERE = b": still here\n\n"
"""A comment: keeps the connection from looking dead."""
