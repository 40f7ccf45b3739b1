"""A gateway whose readings come from a counter: the process that the kill test kills.

`python source.py CONFIG FIRST`: hands in readings numbered from FIRST on, five a turn, and writes the highest number
that is durable to standard output.
"""

import asyncio
import sys
from pathlib import Path

from gateway.clock.system import wall_clock_ms
from gateway.config import GatewayConfig, load
from gateway.health.metrics import GLUCOSE
from gateway.model import Extra, Reading
from gateway.supervisor import Gateway

STREAM = b"kill test stream"
DEVICE = "F0:00:00:00:00:01"


def reading(number: int) -> Reading:
    extras = ((Extra.SEQUENCE, number), (Extra.SESSION, "one"))
    return Reading(DEVICE, GLUCOSE, 100 + number % 50, 0, wall_clock_ms(), extras=extras)


async def main(config: Path, first: int) -> None:
    gateway = Gateway(load(config, GatewayConfig))
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.uplink.run())
        while True:
            gateway.pipeline.submit(STREAM, [reading(number) for number in range(first, first + 5)])
            first += 5
            await gateway.pipeline.flush()
            sys.stdout.write(f"{first - 1}\n")
            sys.stdout.flush()
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
