"""The fault proxy: what passes, what vanishes, what is reset."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.lab.proxy import Proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def says(streams: Streams, text: bytes) -> bytes:
    """What comes back; empty if nothing does, or the connection ends."""
    reader, writer = streams
    writer.write(text)
    try:
        async with asyncio.timeout(0.2):
            return await reader.read(100)
    except (TimeoutError, OSError):
        return b""


async def echoed(port: int) -> bytes:
    """What comes back on a new connection; empty if nothing does."""
    with suppress(OSError):
        async with client(port) as streams:
            return await says(streams, b"hello")
    return b""


async def test_bytes_pass_in_both_directions() -> None:
    async with echo() as to, Proxy(listen=0, to=to) as proxy, client(proxy.port) as streams:
        assert await says(streams, b"hello") == b"hello"


async def test_a_cut_resets_what_is_open_and_what_comes_until_it_is_mended() -> None:
    async with echo() as to, Proxy(listen=0, to=to) as proxy, client(proxy.port) as streams:
        assert await says(streams, b"hello") == b"hello"
        proxy.cut()
        assert await says(streams, b"hello") == b""
        assert await echoed(proxy.port) == b""
        proxy.mend()
        assert await echoed(proxy.port) == b"hello"


async def test_a_hole_swallows_and_keeps_the_connection_which_mending_resets() -> None:
    async with echo() as to, Proxy(listen=0, to=to) as proxy, client(proxy.port) as streams:
        assert await says(streams, b"hello") == b"hello"
        proxy.hole()
        assert await says(streams, b"lost") == b""
        assert not streams[0].at_eof()
        proxy.mend()
        with pytest.raises(OSError, match="reset"):
            await streams[0].read(100)


async def test_a_half_open_connection_stays_open_and_swallows_while_new_ones_work() -> None:
    async with echo() as to, Proxy(listen=0, to=to) as proxy, client(proxy.port) as streams:
        assert await says(streams, b"hello") == b"hello"
        proxy.half_open()
        assert await says(streams, b"lost") == b""
        assert not streams[0].at_eof()
        assert (proxy.halved, proxy.swallowed_bytes) == (1, 4)
        assert await echoed(proxy.port) == b"hello"


async def test_a_slow_network_delays_both_ways_until_it_is_mended() -> None:
    async with echo() as to, Proxy(listen=0, to=to) as proxy, client(proxy.port) as streams:
        proxy.degrade(delay_s=0.15, cut_chance=0.0, rng=random.Random(1))
        assert await says(streams, b"late") == b""
        assert await streams[0].read(100) == b"late"
        proxy.mend()
        assert await says(streams, b"hello") == b"hello"


async def test_with_a_chance_of_cuts_connections_are_reset_now_and_then() -> None:
    async with echo() as to, Proxy(listen=0, to=to) as proxy:
        proxy.degrade(delay_s=0.0, cut_chance=0.2, rng=random.Random(1))
        heard = [await echoed(proxy.port) for _ in range(20)]
        assert {b"", b"hello"} == set(heard)
        assert proxy.resets == heard.count(b"")


async def test_a_broker_that_is_down_closes_the_clients_connection() -> None:
    async with echo() as to:
        pass
    async with Proxy(listen=0, to=to) as proxy:
        assert await echoed(proxy.port) == b""


async def test_as_a_process_it_obeys_lines_on_a_unix_socket(tmp_path: Path) -> None:
    control = tmp_path / "control"
    async with echo() as to:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.lab.proxy", "--to", str(to), "--control", str(control),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            assert ready["event"] == "ready"
            reader, writer = await asyncio.open_unix_connection(control)
            for command, answer, back in ((b"ok", b"done", b"hello"), (b"cut", b"done", b""), (b"?", b"unknown", b"")):
                writer.write(command + b"\n")
                assert await reader.readline() == answer + b"\n"
                assert await echoed(ready["port"]) == back
            writer.close()
        finally:
            process.kill()
            await process.wait()
