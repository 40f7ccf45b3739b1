"""The parts that a benchmark measures, as a site runs them: mosquitto with mutual TLS, the receiver, the gateway."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.config import GatewayConfig, load
from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import Site, build, free_port
from gateway.supervisor import Gateway

NO_TICK = "[outbox]\ntick_ms = 0\noffline_tick_ms = 0\n"

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@contextmanager
def place() -> Iterator[Path]:
    """A directory that lasts as long as the measurement, on the file system of the working directory.

    Socket paths are short, so it is named from there.
    """
    with TemporaryDirectory(dir=".", prefix=".bench-") as root:
        yield Path(os.path.relpath(root))


def lay_out(root: Path, gateway_extra: str = "") -> Site:
    """A site below `root` whose broker has a free port."""
    port = free_port()
    site = Site(root, broker_port=port, uplink_port=port)
    build(site, devices={}, gateway_extra=gateway_extra)
    return site


@asynccontextmanager
async def broker(site: Site) -> AsyncIterator[Child]:
    """Mosquitto as shipped."""
    state = site.root / "broker"
    state.mkdir(exist_ok=True)
    child = await Child.run("broker", *mosquitto.command(site.pki, state, site.broker_port), logs=site.logs)
    try:
        await listening(site.broker_port)
        yield child
    finally:
        await child.stop()


async def listening(port: int) -> None:
    """Wait until somebody listens on a loopback port. Raises `TimeoutError`."""
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def receiver(site: Site, module: str = "gateway.cli.receiver") -> AsyncIterator[Child]:
    """The receiver as a site runs it, once it is subscribed."""
    child = await Child.serve("receiver", module, "run", "--config", str(site.receiver_config), logs=site.logs)
    try:
        yield child
    finally:
        await child.stop()


@contextmanager
def opened(site: Site) -> Iterator[Gateway]:
    """The gateway in this process, without a radio; nothing of it runs."""
    served = Gateway(load(site.gateway_config, GatewayConfig))
    try:
        yield served
    finally:
        served.outbox.close()


@asynccontextmanager
async def sending(served: Gateway, *, ticking: bool = False) -> AsyncIterator[None]:
    """Let it send; unless it is ticking, whoever submits also flushes."""
    tasks: list[asyncio.Task[None]] = [asyncio.create_task(served.uplink.run())]
    if ticking:
        tasks.append(asyncio.create_task(served.pipeline.run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait for something that happens elsewhere. Raises `TimeoutError`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.002)


async def until_receipted(served: Gateway, timeout_s: float = 60) -> None:
    """Wait until the receiver has everything."""
    await until(lambda: served.outbox.waiting() == 0, timeout_s)


def processor_s(process: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_bytes(process: int) -> int:
    """What a process holds in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def now_s() -> float:
    """The clock that all processes of this machine share."""
    return time.monotonic()
