"""A receiver that kills itself between a commit and its receipt: the moment that no test could hit from outside."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.config import load
from gateway.receiver import worker
from gateway.receiver.config import ReceiverConfig
from gateway.uplink.mqtt import Connection


class Doomed(worker.Receiver):
    """Publishes no receipt: it dies with the first one in its hands."""

    async def _publish(self, connection: Connection, receipts: Sequence[tuple[str, bytes]]) -> None:
        if receipts:
            os.kill(os.getpid(), signal.SIGKILL)
        await super()._publish(connection, receipts)


if __name__ == "__main__":
    worker.Receiver = Doomed  # type: ignore[misc] # the fault
    asyncio.run(worker.run(load(Path(sys.argv[1]), ReceiverConfig)))
