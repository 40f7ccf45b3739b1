"""The person at the terminal: what they are told, asked, and answer. A program that stands in for them reads JSON."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Sequence

from gateway.cli.terminal import Style, styled
from gateway.errors import ControlError

_STDIN = 0


class Person:
    """`as_json`: every `event` is a line of JSON on standard output, and nothing else is there."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.here = not as_json and sys.stdin.isatty()
        """Somebody sits there who sees what is asked."""
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._reading = False

    def tell(self, text: str = "", style: Style | None = None) -> None:
        """Say something to a person."""
        if not self._as_json:
            print(styled(text, style) if style else text, flush=True)

    def event(self, name: str, **facts: object) -> None:
        """Say something to a program."""
        if self._as_json:
            print(json.dumps({"event": name, **facts}), flush=True)

    async def line(self) -> str:
        """The next line that is typed. Raises `ControlError` when there will be none."""
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._read, daemon=True).start()
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise ControlError("no-answer", "nobody answers: standard input has ended")
        return line.strip()

    async def ask(self, question: str, answers: Sequence[str] = ()) -> str:
        """What the person answers; one of `answers` (or the beginning of one), if there are any. Raises as `line`."""
        while True:
            self.forget()
            if not self._as_json:
                print(styled(f"{question} ", Style.STRONG), end="", flush=True)
            said = await self.line()
            fitting = [each for each in answers if said and each.startswith(said.casefold())]
            if not answers:
                return said
            if len(fitting) == 1 or said.casefold() in fitting:
                return fitting[0] if len(fitting) == 1 else said.casefold()
            self.tell(f"Please answer: {', '.join(answers)}")

    def forget(self) -> None:
        """What a person typed before it was asked for is no answer."""
        while self.here and not self._lines.empty():
            if self._lines.get_nowait() is None:
                self._lines.put_nowait(None)
                return

    async def agrees(self, question: str) -> bool:
        """Whether the person says yes. Raises as `line`."""
        return await self.ask(f"{question} [yes/no]", ("yes", "no")) == "yes"

    def _read(self) -> None:
        """In a thread: not every standard input can be waited for, and Python's own reader cannot be left behind."""
        rest = b""
        while data := _more():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._put(line.decode(errors="replace"))
        if rest:
            self._put(rest.decode(errors="replace"))
        self._put(None)

    def _put(self, line: str | None) -> None:
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _more() -> bytes:
    try:
        return os.read(_STDIN, 4096)
    except OSError:  # the terminal has gone
        return b""
