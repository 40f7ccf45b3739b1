"""A gateway process whose readings come from a counter instead of a radio: what a benchmark measures from outside.

`python -m bench._source CONFIG WEARABLES RATE [--first N] [--told] [--burst N]`: RATE times a second one reading of
each wearable. Says READY=1 as the daemon does. With `--told` each turn is made durable by itself, and then the highest
number that is durable goes to standard output. With `--burst` N readings more come after a while.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from bench import _rig
from gateway.config import GatewayConfig, load
from gateway.observe import systemd
from gateway.pipeline import wall_clock_ms
from gateway.supervisor import Gateway

_BEFORE_BURST_S = 12
_BURST = 1000
_BURST_PAUSE_S = 0.03


def stream(wearable: int) -> bytes:
    """The stream of a wearable."""
    return b"wearable %07d" % wearable


async def feed(served: Gateway, wearables: int, rate: float, *, first: int, told: bool) -> None:
    """Hand in readings for ever, numbered from `first` on."""
    loop = asyncio.get_running_loop()
    number, due_s = first, loop.time()
    while True:
        for wearable in range(wearables):
            device = f"F0:00:00:00:00:{wearable:02X}"
            served.pipeline.submit(stream(wearable), [_rig.reading(number, device, wall_clock_ms())])
            number += 1
        if told:
            await served.pipeline.flush()
            sys.stdout.write(f"{number - 1}\n")
            sys.stdout.flush()
        due_s += 1 / rate
        await asyncio.sleep(max(0.0, due_s - loop.time()))


async def burst(served: Gateway, readings: int) -> None:
    """Hand in many readings of one wearable, and say when that is over."""
    await asyncio.sleep(_BEFORE_BURST_S)
    for first in range(0, readings, _BURST):
        served.pipeline.submit(b"burst" + bytes(11), list(map(_rig.reading, range(first, first + _BURST))))
        await asyncio.sleep(_BURST_PAUSE_S)
    sys.stderr.write("burst is over\n")


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
    async with asyncio.TaskGroup() as group:
        group.create_task(served.uplink.run())
        if not given.told:
            group.create_task(served.pipeline.run())
        if given.burst:
            group.create_task(burst(served, given.burst))
        systemd.notify("READY=1")
        await feed(served, given.wearables, given.rate, first=given.first, told=given.told)


if __name__ == "__main__":
    asyncio.run(main())
