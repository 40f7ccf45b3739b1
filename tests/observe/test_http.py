"""The small HTTP server: metrics on TCP, control on a Unix socket, no client can block another."""

import asyncio
import ssl
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.identity.tls import client_context, scrape_context
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import free_port
from gateway.observe.http import Page, fetch, serve
from gateway.observe.metrics import GatewayMetrics


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_prometheus_reads_the_metrics() -> None:
    metrics = GatewayMetrics()
    metrics.captured.labels(profile="cgm", metric="glucose", quality="good").inc(3)
    port = free_port()
    async with serve({"/metrics": Page(metrics.render)}, listen=f"127.0.0.1:{port}"):
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'iomt_gateway_captured_readings_total{metric="glucose",profile="cgm",quality="good"} 3.0' in answer


async def test_a_client_that_says_nothing_does_not_block_the_next() -> None:
    port = free_port()
    async with serve({"/": Page(lambda: b"here")}, listen=f"127.0.0.1:{port}"):
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(30):
            assert b"here" in await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        silent.close()


async def test_over_tls_a_certificate_is_asked_for_and_a_client_that_says_nothing_blocks_nobody(tmp_path: Path) -> None:
    make_dev_pki(tmp_path, ["gw-001"])
    ca = tmp_path / "ca.crt"
    scrapes = scrape_context((ca, tmp_path / "broker.crt", tmp_path / "broker.key"))
    known = client_context(ca, tmp_path / "receiver.crt", tmp_path / "receiver.key")
    stranger = ssl.create_default_context(cafile=ca)
    port = free_port()

    async def scrape(tls: ssl.SSLContext) -> bytes:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async with serve({"/": Page(lambda: b"here")}, listen=f"127.0.0.1:{port}", tls=scrapes):
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(30):
            assert b"here" in await scrape(known)
        with suppress(OSError):  # with TLS 1.3 a refusal comes after the client's own handshake
            assert await scrape(stranger) == b""
        silent.close()
        await silent.wait_closed()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /other HTTP/1.1", b"404"), (b"POST / HTTP/1.1", b"405")],
)
async def test_other_paths_and_methods_are_refused(request_line: bytes, status: bytes) -> None:
    port = free_port()
    async with serve({"/": Page(lambda: b"here")}, listen=f"127.0.0.1:{port}"):
        answer = await ask(port, request_line + b"\r\nHost: x\r\n\r\n")
    assert answer.split()[1] == status


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00\x00" * 40 + b"\r\n\r\n", b"A" * 20_000, b""])
async def test_garbage_costs_that_connection_alone(garbage: bytes) -> None:
    port = free_port()
    async with serve({"/": Page(lambda: b"here")}, listen=f"127.0.0.1:{port}"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.write_eof()
        with suppress(ConnectionResetError):
            assert b"here" not in await reader.read()
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
        assert b"here" in await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_the_unix_socket_is_the_owners_alone(tmp_path: Path) -> None:
    socket = tmp_path / "control.sock"
    async with serve({"/v1/status": Page(lambda: b"{}")}, listen=socket):
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert await fetch("/v1/status", socket=socket) == b"{}"


async def test_an_address_in_use_is_told() -> None:
    port = free_port()
    async with serve({}, listen=f"127.0.0.1:{port}"):
        with pytest.raises(ConfigError, match="cannot listen on"):
            async with serve({}, listen=f"127.0.0.1:{port}"):
                pass
