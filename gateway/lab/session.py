"""A command in a pseudo-terminal of 80 by 24, typed at and read as a person would."""

import asyncio
import fcntl
import os
import re
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Self

from gateway.errors import GatewayError

_ROWS, _COLUMNS = 24, 80
_EXPECT_S = 60.0
_CONTROL: Final = re.compile(r"\x1b(\[[0-9;?]*([A-Za-z]|$)|$)")


class Session:
    """`written` is everything that the command wrote, control sequences and echoed typing included."""

    def __init__(self, process: Process, terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self._seen = 0
        self._more = asyncio.Event()
        self._ended = False
        self.closed = False
        self.written = ""
        asyncio.get_running_loop().add_reader(terminal, self._read)

    @classmethod
    async def start(cls, *command: str, env: Mapping[str, str] | None = None) -> Self:
        """Run `command`; `env` is added to the environment, where an empty TERM is none."""
        terminal, inside = os.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=inside,
                stdout=inside,
                stderr=inside,
                env={**os.environ, "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1", **(env or {})},
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
            )
        finally:
            os.close(inside)
        os.set_blocking(terminal, False)
        return cls(process, terminal)

    def _read(self) -> None:
        try:
            data = os.read(self._terminal, 65_536)
        except OSError:  # Linux: the other side is closed
            data = b""
        if not data:
            self._ended = True
            asyncio.get_running_loop().remove_reader(self._terminal)
        self.written += data.decode(errors="replace")
        self._more.set()

    @property
    def text(self) -> str:
        """What stands there, without colours."""
        return plain(self.written)

    @property
    def _all(self) -> str:
        """What was written, in order, also what was overwritten since; never less than before."""
        return _CONTROL.sub("", self.written.replace("\r\n", "\n").replace("\r", "\n"))

    async def expect(self, pattern: str) -> re.Match[str]:
        """Wait until `pattern` stands in what was written since the last match. Raises `GatewayError` with the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXPECT_S):
                while not (found := re.compile(pattern).search(self._all, self._seen)) and not self._ended:
                    self._more.clear()
                    await self._more.wait()
        if not found:
            raise GatewayError(f"{pattern!r} was never written; instead: {self._all[self._seen :][-500:]!r}")
        self._seen = found.end()
        return found

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._terminal, text.encode())

    async def wait(self) -> int:
        """Wait for its end; its exit status."""
        status = await self._process.wait()
        while True:
            try:
                data = os.read(self._terminal, 65_536)
            except OSError:
                break
            self.written += data.decode(errors="replace")
        return status

    async def close(self) -> None:
        """Close the terminal, as a connection that is cut would, and wait for its end."""
        asyncio.get_running_loop().remove_reader(self._terminal)
        self.closed = True
        os.close(self._terminal)
        await self._process.wait()


def plain(written: str) -> str:
    """`written` as it stands on the screen in the end: no colours, and of what was overwritten the last."""
    text = _CONTROL.sub("", written.replace("\r\n", "\n"))
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))
