"""A bedside: virtual wearables here, the daemon as a process, and a person who types commands."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lab.air import Air
from gateway.lab.devices import Cgm, CgmPace, GlucoseMeter
from gateway.lab.peripheral import LedgerWriter
from gateway.lab.process import Child
from gateway.lab.session import Session
from gateway.lab.site import Site, build, free_port


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


class Bedside:
    """A CGM and a meter that nobody has paired, and the daemon of a site without a broker."""

    def __init__(self, root: Path) -> None:
        port = free_port()
        self.site = Site(root, broker_port=port, uplink_port=port)
        self.config = self.site.gateway_config
        self.air = Air()
        self.cgm: Cgm
        self.meter: GlucoseMeter
        self._daemon: Child | None = None
        self._sessions: list[Session] = []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gateway.cli.gateway", *arguments, "--config", str(self.config)]

    async def start(self) -> None:
        self._daemon = await Child.serve("gateway", *self.command("run")[2:], logs=self.site.logs)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._daemon:
            await self._daemon.kill(number)
            self._daemon = None

    async def run(self, *arguments: str, **env: str) -> Done:
        """The command with pipes for input and output."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env=os.environ | env,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def type(self, *arguments: str, **env: str) -> Session:
        """The command in a terminal of 80 by 24."""
        session = await Session.start(*self.command(*arguments), env=env)
        self._sessions.append(session)
        return session

    async def close(self) -> None:
        for session in self._sessions:
            if not session.closed:
                await session.close()
        await self.stop()
        await self.air.close()
        await self.cgm.stop()
        await self.meter.stop()


@contextlib.asynccontextmanager
async def a_bedside(root: Path) -> AsyncIterator[Bedside]:
    with contextlib.chdir(root):  # a socket's path has 107 octets
        here = Bedside(Path())
        build(here.site, devices={}, gateway_extra="[outbox]\noffline_tick_ms = 10\n")
        ledger = LedgerWriter(here.site.ledger)
        pace = CgmPace(session_age_s=3600, lag_min=30, interval_min=1)
        here.cgm = Cgm(here.air.link, ledger=ledger, seed=1, pace=pace)
        here.meter = GlucoseMeter(here.air.link, ledger=ledger, seed=1)
        await here.air.serve(here.site.radio)
        await here.cgm.start()
        await here.meter.start()
        await here.start()
        try:
            yield here
        finally:
            await here.close()
            ledger.close()


@pytest.fixture
async def bedside(tmp_path: Path) -> AsyncIterator[Bedside]:
    async with a_bedside(tmp_path) as here:
        yield here


def lines_fit(text: str) -> bool:
    """Whether no line is longer than 80 columns."""
    return all(len(line) <= 80 for line in text.splitlines())
