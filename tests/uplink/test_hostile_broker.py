"""A broker that holds a good certificate and sends nonsense gets a declared error, at once."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import ConnectionLostError, ConnectionRefusedByBrokerError, UplinkError
from gateway.identity.tls import server_context

from .conftest import connect

CONNACK = b"\x20\x03\x00\x00\x00"


async def meet(pki: Path, *answers: bytes) -> None:
    """Connect to a broker that answers CONNECT with `answers`, and wait for a message."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        for data in answers:
            writer.write(data)
        await writer.drain()
        await reader.read(1000)
        writer.close()

    tls = server_context(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server, asyncio.timeout(30):
        connection = connect(f"localhost:{server.sockets[0].getsockname()[1]}", "gw-001", pki)
        async with connection:
            await connection.receive(1)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x30\x05\x00\x02\xff\xfe\x00",  # PUBLISH, topic not UTF-8
        b"\x32\x03\x00\x09a",  # PUBLISH, topic longer than the packet
        b"\x30\xff\xff\xff\xff\xff",  # remaining length of more than four bytes
        b"\x36\x05\x00\x01a\x00\x01",  # PUBLISH, QoS 3
        b"\xf0\x00",  # AUTH that nobody asked for
        b"\x90\x00",  # empty SUBACK
        b"\x40\x03\x00\x01\xff",  # PUBACK with a reason code that does not exist
        b"\x00\x00",  # reserved packet type
        b"\xe0\x02\x8b\x00",  # DISCONNECT: server shutting down
    ],
)
async def test_nonsense_after_connack_ends_the_connection(pki: Path, nonsense: bytes) -> None:
    with pytest.raises(ConnectionLostError):
        await meet(pki, CONNACK, nonsense)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x20\x03\x00\x87\x00",
        b"\x20\x03\x00\x7f\x00",
        b"\x20\x00",
        b"\x30\x05\x00\x02\xff\xfe\x00",
    ],
)
async def test_nonsense_instead_of_connack_is_a_refusal(pki: Path, nonsense: bytes) -> None:
    with pytest.raises(UplinkError) as caught:
        await meet(pki, nonsense)
    assert caught.type is ConnectionRefusedByBrokerError


async def test_an_answer_to_half_of_a_subscription_ends_the_connection(pki: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for data in (CONNACK, b"\x90\x04\x00\x01\x00\x01"):
            await reader.read(1000)
            writer.write(data)
            await writer.drain()
        await reader.read(1000)
        writer.close()

    tls = server_context(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    endpoint = f"localhost:{server.sockets[0].getsockname()[1]}"
    async with server, asyncio.timeout(30), connect(endpoint, "gw-001", pki) as connection:
        with pytest.raises(ConnectionLostError, match="1 answers to 2 subscriptions"):
            await connection.subscribe("one", "two")
