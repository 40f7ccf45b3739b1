"""Child processes of the demo and of system tests: each says on its standard output, as JSON lines, what it does."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Self

from gateway.errors import GatewayError

_READY_S = 30.0


class Child:
    """One process of ours: `python -m MODULE ARGUMENTS`, its log in a file, its events readable."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    async def run(cls, name: str, *command: str, logs: Path) -> Self:
        """Start any command; its output goes to its log."""
        log = logs / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)
        return cls(name, process, log)

    @classmethod
    async def start(cls, name: str, *arguments: str, logs: Path, ready: bool = True) -> Self:
        """Start `python -m ...` and, with `ready`, wait until it says so: {"event": "ready"} on its standard output.

        Raises `GatewayError` with the end of its log if it ends or stays silent instead.
        """
        command = (sys.executable, "-m", *arguments)
        if not ready:
            return await cls.run(name, *command, logs=logs)
        log = logs / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=file)
        child = cls(name, process, log)
        try:
            async with asyncio.timeout(_READY_S):
                while (await child._event()).get("event") != "ready":
                    pass
        except TimeoutError:
            await child.kill()
            raise GatewayError(f"{name} did not become ready: {child.last_words()}") from None
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

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        if self.running:
            self._process.send_signal(number)
        await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end in order; insist after ten seconds."""
        try:
            async with asyncio.timeout(10):
                await self.kill(signal.SIGTERM)
        except TimeoutError:
            await self.kill()
