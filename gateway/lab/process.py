"""Child processes of the demo and of system tests: each says on its standard output, as JSON lines, what it does."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
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
    async def start(
        cls, name: str, *arguments: str, logs: Path, ready: bool = True, env: Mapping[str, str] | None = None
    ) -> Self:
        """Start `python -m ...` and, if it says so, wait until it is ready.

        Raises `GatewayError` with the end of its log if it ends or stays silent instead.
        """
        log = logs / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdout=PIPE if ready else file,
                stderr=file,
                env={**os.environ, **(env or {})},
            )
        child = cls(name, process, log)
        if ready:
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
