"""A small HTTP/1.1 server: h11's protocol on asyncio streams, one request a connection.

It serves metrics on loopback, the control API on a Unix socket, and enrolment over TLS. One silent client can't block
another: each connection has its own task and deadline.
"""

import asyncio
import socket as sockets
import ssl
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import h11

from gateway.errors import ConfigError

_DEADLINE_S = 10.0
_MAX_REQUEST_BYTES = 8192
_SO_PEERGROUPS = 59
"""From Linux' asm-generic/socket.h; Python has no name for it."""
_GROUPS_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is at the other end of a Unix socket: the kernel's word, from when they connected."""

    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    peer: bytes | None
    """The client's certificate (DER), if TLS asked for one and its chain verified."""
    credentials: Credentials | None = None
    """Who asks, on a Unix socket."""
    query: str = ""
    """What stands behind the question mark."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a request is answered with."""

    status: int
    body: bytes | AsyncGenerator[bytes, None] = b"\n"
    """Whole, or part by part as long as the client listens."""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


T = TypeVar("T")
Answer = Callable[[Request], Response | Coroutine[None, None, Response]]
"""At once, or later; what a client no longer waits for is cancelled."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one path answers: a function that renders it, and its media type."""

    render: Callable[[], bytes]
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serve(
    pages: Mapping[str, Page], *, listen: str | Path, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Answer GET for `pages` while the context is open.

    `listen` is HOST:PORT, or the path of a Unix socket, which only the owner can open.
    Raises `ConfigError` if the address can't be had.
    """
    async with serve_requests(partial(_page, pages), listen=listen, tls=tls):
        yield


@asynccontextmanager
async def serve_requests(
    answer: Answer, *, listen: str | Path, tls: ssl.SSLContext | None = None, mode: int = 0o600
) -> AsyncIterator[None]:
    """Let `answer` answer every request while the context is open; `listen` and errors as in `serve`.

    `mode` is that of a Unix socket: who may connect.
    """
    clients: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            clients.add(task)
            task.add_done_callback(clients.discard)
        try:
            with suppress(OSError, h11.RemoteProtocolError, TimeoutError):
                await _converse(answer, reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    try:
        if isinstance(listen, Path):
            listen.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(client, listen)
            listen.chmod(mode)
        else:
            host, _, port = listen.rpartition(":")
            deadline_s = None if tls is None else _DEADLINE_S
            server = await asyncio.start_server(
                client, host.strip("[]"), int(port), ssl=tls, ssl_handshake_timeout=deadline_s
            )
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror}") from error
    async with server:
        try:
            yield
        finally:
            server.close()
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


def _page(pages: Mapping[str, Page], request: Request) -> Response:
    page = pages.get(request.path)
    if page is None:
        return Response(404)
    return Response(200, page.render(), page.content_type) if request.method == "GET" else Response(405)


async def _converse(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one response, close."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST_BYTES)
    async with asyncio.timeout(_DEADLINE_S):
        request = await _request(connection, reader, writer)
    if request is None:
        return
    response = answer(request)
    if not isinstance(response, Response):
        response = await _while_listening(response, reader)
    headers = [("Content-Type", response.content_type), *response.headers, ("Connection", "close")]
    if isinstance(response.body, bytes):
        headers.append(("Content-Length", str(len(response.body))))
        head = connection.send(h11.Response(status_code=response.status, headers=headers)) or b""
        body = b"" if request.method == "HEAD" else response.body
        await _write(writer, head + (connection.send(h11.Data(data=body)) or b""))
    else:
        await _write(writer, connection.send(h11.Response(status_code=response.status, headers=headers)) or b"")
        await _while_listening(_stream(connection, response.body, writer), reader)


async def _stream(connection: h11.Connection, body: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter) -> None:
    async with aclosing(body) as parts:
        async for part in parts:
            await _write(writer, connection.send(h11.Data(data=part)) or b"")
    await _write(writer, connection.send(h11.EndOfMessage()) or b"")


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(_DEADLINE_S):
        await writer.drain()


async def _while_listening(work: Coroutine[None, None, T], reader: asyncio.StreamReader) -> T:
    """Its result. If the client leaves before, it is cancelled, and ConnectionResetError raised."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(reader))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ConnectionResetError("the client has left")
        return task.result()
    finally:
        gone.cancel()
        if task.cancel():
            await asyncio.wait((task,))


async def _gone(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(4096):
            pass


async def _request(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    """The whole request; None if the client left or sent more than is allowed."""
    head, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_REQUEST_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
            path, _, query = head.target.decode("ascii", "replace").partition("?")
            return Request(
                method=head.method.decode("ascii"),
                path=path,
                query=query,
                headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
                body=body,
                peer=None if tls is None else tls.getpeercert(binary_form=True),
                credentials=_credentials(writer.get_extra_info("socket")),
            )
        else:
            return None


def _credentials(connection: sockets.socket) -> Credentials | None:
    """None of a connection that is no Unix socket's. Without their groups for somebody in more than 256."""
    if connection.family != sockets.AF_UNIX:
        return None
    form = "iII"
    raw = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, struct.calcsize(form))
    _, uid, gid = struct.unpack(form, raw)
    try:
        groups = connection.getsockopt(sockets.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        groups = b""
    return Credentials(uid, frozenset((gid, *struct.unpack(f"{len(groups) // 4}I", groups))))


@asynccontextmanager
async def request(
    method: str, path: str, *, socket: str | Path, body: bytes = b""
) -> AsyncIterator[tuple[int, AsyncGenerator[bytes, None]]]:
    """Ask a server at HOST:PORT, or on the Unix socket of that path; the answer's status, and its body part by part.

    Raises OSError if nobody listens there, `h11.RemoteProtocolError` on nonsense or an end in the middle.
    """
    if isinstance(socket, Path):
        reader, writer = await asyncio.open_unix_connection(socket)
    else:
        host, _, port = socket.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    connection = h11.Connection(h11.CLIENT)

    async def next_event() -> object:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(65_536))
        return event

    async def parts() -> AsyncGenerator[bytes, None]:
        while isinstance(event := await next_event(), h11.Data):
            yield bytes(event.data)

    headers = [("Host", "localhost"), ("Connection", "close"), ("Content-Length", str(len(body)))]
    head = connection.send(h11.Request(method=method, target=path, headers=headers)) or b""
    writer.write(head + (connection.send(h11.Data(data=body)) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    try:
        answer = await next_event()
        if not isinstance(answer, h11.Response):
            raise h11.RemoteProtocolError("no answer")
        async with aclosing(parts()) as content:
            yield answer.status_code, content
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def fetch(path: str, *, socket: str | Path) -> bytes:
    """GET `path`, whatever the status; `socket` and errors as in `request`."""
    async with request("GET", path, socket=socket) as (_, content):
        return b"".join([part async for part in content])
