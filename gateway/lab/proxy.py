"""A TCP proxy that fails on command, between a gateway and its broker.

In this process `async with Proxy(listen=PORT, to=PORT) as proxy`; as a process of its own
`python -m gateway.lab.proxy --listen PORT --to PORT --control SOCKET`, where each line sent to the Unix socket is one
of `cut`, `hole`, `half`, `ok`, and is answered by `done`.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 65_536
_PACKET_BYTES = 576


class Mode(Enum):
    """How the network behaves."""

    OK = "ok"
    CUT = "cut"
    """Connections are reset, new ones too."""
    HOLE = "hole"
    """Bytes vanish, in both directions; nobody is told."""


@dataclass(slots=True, eq=False)
class _Link:
    """One client's connection, and ours to where it wanted to go."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    half_open: bool = False

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                _abort(writer)


class Proxy:
    """Forwards loopback TCP connections from port `listen` (0: a free one) to port `to`."""

    def __init__(self, *, listen: int, to: int) -> None:
        self.mode = Mode.OK
        self.port = listen
        self.resets = 0
        """Connections that were reset, in all."""
        self.swallowed_bytes = 0
        """What vanished, in all."""
        self.halved = 0
        """Connections whose far end went without a word, in all."""
        self._to = to
        self._delay_s = 0.0
        self._cut_chance = 0.0
        self._rng = random.Random()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Reset what is open and stop listening."""
        self._server.close()
        self._reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection, and new ones until `mend`."""
        self.mode = Mode.CUT
        self._reset()

    def hole(self) -> None:
        """Swallow what is sent until `mend`; connections stay open."""
        self.mode = Mode.HOLE

    def half_open(self) -> None:
        """Take the far end of every connection away; the near one is not told. New connections work."""
        for link in self._links:
            if link.far is not None:
                self.halved += 1
                link.half_open = True
                _abort(link.far)

    def degrade(self, *, delay_s: float, cut_chance: float, rng: random.Random) -> None:
        """Let everything arrive `delay_s` late, and reset a connection with this chance a packet, until `mend`."""
        self._delay_s, self._cut_chance, self._rng = delay_s, cut_chance, rng

    def mend(self) -> None:
        """Work again. What was swallowed is lost, so connections that lived through a hole are reset."""
        if self.mode is Mode.HOLE:
            self._reset()
        self.mode = Mode.OK
        self._delay_s = self._cut_chance = 0.0

    def _reset(self) -> None:
        self.resets += len(self._links)
        for link in self._links:
            link.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        link = _Link(writer)
        self._tasks.add(task)
        self._links.add(link)
        try:
            await self._forward(reader, link)
        finally:
            self._links.discard(link)
            self._tasks.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, link: _Link) -> None:
        if self.mode is Mode.CUT:
            link.reset()
            return
        try:
            far_reader, link.far = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            return
        upwards = asyncio.ensure_future(self._pump(reader, link.far, link))
        downwards = asyncio.ensure_future(self._pump(far_reader, link.near, link))
        try:
            await asyncio.wait({upwards, downwards}, return_when=asyncio.FIRST_COMPLETED)
            if link.half_open:
                await upwards
        finally:
            for pump in (upwards, downwards):
                pump.cancel()
            await asyncio.gather(upwards, downwards, return_exceptions=True)
            link.far.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PACKET_BYTES if self._cut_chance else _CHUNK_BYTES):
                await asyncio.sleep(self._delay_s)
                if self._rng.random() < self._cut_chance:
                    self.resets += 1
                    link.reset()
                elif self.mode is Mode.HOLE or link.half_open:
                    self.swallowed_bytes += len(data)
                else:
                    writer.write(data)
                    await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def serve(listen: int, to: int, control: Path) -> None:
    """Run until cancelled."""
    async with Proxy(listen=listen, to=to) as proxy:
        commands = {"cut": proxy.cut, "hole": proxy.hole, "half": proxy.half_open, "ok": proxy.mend}

        async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                command = commands.get(line.decode("ascii", "replace").strip())
                if command is not None:
                    command()
                writer.write(b"done\n" if command is not None else b"unknown\n")
            writer.close()

        server = await asyncio.start_unix_server(obey, control)
        async with server:
            sys.stdout.write(json.dumps({"event": "ready", "port": proxy.port}) + "\n")
            sys.stdout.flush()
            await server.serve_forever()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.proxy", description="A TCP proxy that fails.")
    parser.add_argument("--listen", type=int, default=0, help="loopback port; 0: a free one")
    parser.add_argument("--to", type=int, required=True, help="loopback port of the broker")
    parser.add_argument("--control", type=Path, required=True, metavar="SOCKET", help="Unix socket for commands")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.listen, arguments.to, arguments.control))


if __name__ == "__main__":
    main()
