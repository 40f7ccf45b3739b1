"""Child processes of the demo, of `prove`, of benchmarks and of system tests, and how each says that it is ready."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from gateway.errors import GatewayError

_READY_S = 180.0
"""Under emulation of another processor a start takes a minute."""


class Child:
    """One process of ours: `python -m MODULE ARGUMENTS`, its log in a file, its events readable."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    async def run(cls, name: str, *command: str, logs: Path, env: Mapping[str, str] | None = None) -> Self:
        """Start any command; its output goes to its log, `env` to its environment."""
        log = logs / f"{name}.log"
        with log.open("ab") as file:
            # A session of its own: Ctrl-C in a terminal reaches the parent alone, which then ends it in order.
            process = await asyncio.create_subprocess_exec(
                *command, stdout=file, stderr=file, env={**os.environ, **(env or {})}, start_new_session=True
            )
        return cls(name, process, log)

    @classmethod
    async def serve(cls, name: str, *arguments: str, logs: Path) -> Self:
        """Start `python -m ...`, one of our daemons, and wait until it says READY=1 as it would to systemd.

        Raises `GatewayError` with the end of its log if it ends or stays silent instead.
        """
        address = logs / f"{name}.notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
            listener.bind(str(address))
            child = await cls.run(
                name, sys.executable, "-m", *arguments, logs=logs, env={"NOTIFY_SOCKET": str(address)}
            )
            said = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(listener, 64))
            ended = asyncio.ensure_future(child.wait())
            async with AsyncExitStack() as undo:
                undo.push_async_callback(child.kill)
                try:
                    await asyncio.wait({said, ended}, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    said.cancel()
                    ended.cancel()
                    await asyncio.wait({said, ended})
                if said.cancelled():
                    raise GatewayError(f"{name} did not become ready: {child.last_words()}")
                undo.pop_all()
        return child

    @classmethod
    async def start(cls, name: str, *arguments: str, logs: Path) -> Self:
        """Start `python -m ...`, one of our tools, and wait until it prints {"event": "ready"}.

        Raises `GatewayError` with the end of its log if it ends or stays silent instead.
        """
        log = logs / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        child = cls(name, process, log)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(child.kill)
            try:
                async with asyncio.timeout(_READY_S):
                    while (await child._event()).get("event") != "ready":
                        pass
            except TimeoutError:
                raise GatewayError(f"{name} did not become ready: {child.last_words()}") from None
            undo.pop_all()
        return child

    async def _event(self) -> dict[str, Any]:
        assert self._process.stdout  # noqa: S101 - opened as a pipe by `start`
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            raise GatewayError(f"{self.name} ended with status {self._process.returncode}: {self.last_words()}")
        event: dict[str, Any] = json.loads(line)
        return event

    def last_words(self) -> str:
        """The end of the log."""
        return self._log.read_text(errors="replace")[-2000:]

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end; its exit status, or minus the signal that ended it."""
        return await self._process.wait()

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send it a signal and wait for its end, as `wait` does."""
        self.signal(number)
        return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.running:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Ask it to end in order; insist after ten seconds."""
        try:
            async with asyncio.timeout(10):
                await self.kill(signal.SIGTERM)
        except TimeoutError:
            await self.kill()
