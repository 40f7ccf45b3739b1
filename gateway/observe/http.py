"""A small HTTP/1.1 server: h11's protocol on asyncio streams, GET only.

It serves metrics on loopback and the control API on a Unix socket. One silent client can't block another: each
connection has its own task and deadline.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h11

from gateway.errors import ConfigError

_DEADLINE_S = 10.0
_MAX_REQUEST_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Page:
    """What one path answers: a function that renders it, and its media type."""

    render: Callable[[], bytes]
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serve(pages: Mapping[str, Page], *, listen: str | Path) -> AsyncIterator[None]:
    """Answer GET for `pages` while the context is open.

    `listen` is HOST:PORT, or the path of a Unix socket, which only the owner can open.
    Raises `ConfigError` if the address can't be had.
    """
    clients: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            clients.add(task)
            task.add_done_callback(clients.discard)
        try:
            with suppress(OSError, h11.RemoteProtocolError, TimeoutError):
                async with asyncio.timeout(_DEADLINE_S):
                    await _answer(pages, reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    try:
        if isinstance(listen, Path):
            listen.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(client, listen)
            listen.chmod(0o600)
        else:
            host, _, port = listen.rpartition(":")
            server = await asyncio.start_server(client, host.strip("[]"), int(port))
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror}") from error
    async with server:
        yield
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


async def _answer(pages: Mapping[str, Page], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one response, close."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST_BYTES)
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Request):
            break
        else:
            return
    page = pages.get(event.target.split(b"?")[0].decode("ascii", "replace"))
    if event.method != b"GET" or page is None:
        status, body, content_type = (405 if page else 404), b"\n", "text/plain"
    else:
        status, body, content_type = 200, page.render(), page.content_type
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Connection", "close")]
    writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
    writer.write(connection.send(h11.Data(data=body)) or b"")
    await writer.drain()


async def fetch(path: str, *, socket: Path) -> bytes:
    """GET `path` from a server on a Unix socket.

    Raises OSError if nobody listens there, `h11.RemoteProtocolError` on nonsense.
    """
    reader, writer = await asyncio.open_unix_connection(socket)
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=path, headers=[("Host", "localhost"), ("Connection", "close")])
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body = b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body
    finally:
        writer.close()
        await writer.wait_closed()
