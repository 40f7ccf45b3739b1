"""A gateway process whose readings come from a counter instead of a radio: what a benchmark measures from outside.

`python -m bench._source CONFIG WEARABLES RATE [--first N] [--told] [--burst N]`: RATE times a second one reading of
each wearable. Says READY=1 as the daemon does. With `--told` it writes `HANDED_IN DURABLE` to standard output, the
highest number of each, whenever one has changed. With `--burst` N readings more come after a while.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from bench._readings import reading
from gateway.clock.system import wall_clock_ms
from gateway.config import GatewayConfig, load
from gateway.model import Cursor
from gateway.observe import systemd
from gateway.supervisor import Gateway

_TELL_S = 0.005
_BEFORE_BURST_S = 12
_BURST = 1000
_BURST_PAUSE_S = 0.03


def stream(wearable: int) -> bytes:
    """The stream of a wearable."""
    return b"wearable %07d" % wearable


class Feed:
    """Hands in readings, numbered from `first` on, and knows which are durable."""

    def __init__(self, served: Gateway, wearables: int, *, first: int) -> None:
        self._served = served
        self._devices = [f"F0:00:00:00:00:{wearable:02X}" for wearable in range(wearables)]
        self._number = first

    async def run(self, rate: float) -> None:
        """One reading of each wearable `rate` times a second, for ever."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            for wearable, device in enumerate(self._devices):
                value = reading(self._number, device, wall_clock_ms())
                self._served.pipeline.submit(stream(wearable), [value], Cursor(device, "one", self._number))
                self._number += 1
            due_s += 1 / rate
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def tell(self) -> None:
        """Write what was handed in and what is durable, for ever."""
        told = (0, 0)
        while True:
            cursors = self._served.outbox.cursors
            known = [cursors[device].sequence for device in self._devices if device in cursors]
            now = (self._number - 1, max(known, default=-1))
            if now != told:
                sys.stdout.write(f"{now[0]} {now[1]}\n")
                sys.stdout.flush()
                told = now
            await asyncio.sleep(_TELL_S)


async def burst(served: Gateway, readings: int) -> None:
    """Hand in many readings of one wearable, a tenth of them first, and say when each part is over."""
    for name, count in (("warm-up", readings // 10), ("burst", readings)):
        await asyncio.sleep(_BEFORE_BURST_S)
        for first in range(0, count, _BURST):
            served.pipeline.submit(b"burst" + bytes(11), list(map(reading, range(first, first + _BURST))))
            await asyncio.sleep(_BURST_PAUSE_S)
        sys.stderr.write(f"{name} is over\n")


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("wearables", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--told", action="store_true")
    parser.add_argument("--burst", type=int, default=0)
    given = parser.parse_args()
    served = Gateway(load(given.config, GatewayConfig))
    source = Feed(served, given.wearables, first=given.first)
    async with asyncio.TaskGroup() as group:
        group.create_task(served.uplink.run())
        group.create_task(served.pipeline.run())
        group.create_task(source.run(given.rate))
        if given.told:
            group.create_task(source.tell())
        if given.burst:
            group.create_task(burst(served, given.burst))
        systemd.notify("READY=1")


if __name__ == "__main__":
    asyncio.run(main())
