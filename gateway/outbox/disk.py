"""The one thread in which everything is written, in order."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gateway.errors import OutboxWriteError
from gateway.observe.progress import Pulse

T = TypeVar("T")


class Disk:
    """Does what it is given in order, in one thread.

    `on_failure` is told, in any thread, of each piece of work for which nobody waits and which failed.
    """

    def __init__(self) -> None:
        self.on_failure: Callable[[OSError], None] = lambda _: None
        self.pulse = Pulse()
        """Late while one piece of work takes its time."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")

    def do(self, work: Callable[[], T]) -> T:
        """Do `work` after what was submitted before, and wait for it. Raises what it raises."""
        return self._thread.submit(self.pulse.watched(work)).result()

    def submit(self, work: Callable[[], object]) -> None:
        """Queue `work`."""

        def told(finished: Future[object]) -> None:
            error = finished.exception()
            if isinstance(error, OSError):
                self.on_failure(error)

        self._thread.submit(self.pulse.watched(work)).add_done_callback(told)

    async def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], None] = lambda _: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Do `work` in the disk's thread, then `done` or `failed` here, even if the caller is cancelled meanwhile.

        Raises `OutboxWriteError` where the file system refuses, and the other errors of `work`.
        """
        future = asyncio.wrap_future(self._thread.submit(self.pulse.watched(work)))

        def settled(finished: asyncio.Future[T]) -> None:
            if finished.exception() is None:
                done(finished.result())
            else:
                failed()

        future.add_done_callback(settled)
        try:
            await asyncio.shield(future)
        except OSError as error:
            raise OutboxWriteError(f"the disk refused a write or a sync ({error}): check the disk") from error

    async def ask(self, work: Callable[[], T]) -> T:
        """Return what `work` finds, done in the disk's thread. Raises as `run` does."""
        found: list[T] = []
        await self.run(work, found.append)
        return found[0]

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._thread.shutdown()
