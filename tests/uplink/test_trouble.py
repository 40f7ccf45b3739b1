"""What goes wrong between a gateway and its broker is noticed in time, named by its cause, and survived."""

import asyncio
import contextlib
import datetime as dt
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.errors import CertificateTimeError, ClosedByBrokerError, ConnectionLostError
from gateway.identity.files import load_private_key
from gateway.identity.tls import client_context, server_context
from gateway.lab.proxy import Proxy
from gateway.uplink.mqtt import FAILURE

from .conftest import Broker, connect, eventually
from .test_uplink import GATEWAY, Box, make_box, receiving, running

CONNACK, SUBACK = b"\x20\x03\x00\x00\x00", b"\x90\x05\x00\x01\x00\x01\x01"
PUBACK, TAKEN_OVER = b"\x40\x02\x00\x02", b"\xe0\x02\x8e\x00"
KEEPALIVE_S = 1
LONGEST_S = 2 * KEEPALIVE_S + 11
"""Two keepalives, a second that the clock of the client's timer is coarse, and ten for a busy machine."""


@pytest.fixture
def box(pki: Path, tmp_path: Path) -> Box:
    return make_box(pki, tmp_path)


@pytest.mark.parametrize("fault", [Proxy.hole, Proxy.half_open])
async def test_a_black_hole_and_a_half_open_link_are_noticed_within_two_keepalives_though_nothing_is_sent(
    broker: Broker, fault: Callable[[Proxy], None]
) -> None:
    async with (
        Proxy(listen=0, to=broker.port) as proxy,
        broker.connection(GATEWAY, port=proxy.port, keepalive_s=KEEPALIVE_S) as connection,
    ):
        fault(proxy)
        started = time.monotonic()
        with pytest.raises(ConnectionLostError):
            await connection.receive(1)
        assert KEEPALIVE_S <= time.monotonic() - started < LONGEST_S


async def test_a_broker_that_stands_still_is_noticed_within_two_keepalives(
    mortal_broker: Broker,
) -> None:
    async with mortal_broker.connection(GATEWAY, keepalive_s=KEEPALIVE_S) as connection:
        assert mortal_broker.process
        mortal_broker.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(ConnectionLostError):
            await connection.receive(1)
        assert time.monotonic() - started < LONGEST_S
        mortal_broker.process.send_signal(signal.SIGCONT)


def issue(pki: Path, out: Path, name: str, first_day: int, last_day: int) -> None:
    """A certificate of the site's CA that is valid between two days from now."""
    key = generate_private_key(SECP256R1())
    ca = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=first_day))
        .not_valid_after(now + dt.timedelta(days=last_day))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)
        .sign(load_private_key(pki / "ca.key"), SHA256())
    )
    out.joinpath(f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = out / f"{name}.key"
    path.touch(0o600)
    path.write_bytes(private)


@pytest.mark.parametrize(
    ("first_day", "last_day", "words"),
    [(1, 9, "is not valid yet at .*: set the clock"), (-9, -1, "has expired at .*: set the clock")],
)
async def test_a_brokers_certificate_of_another_time_is_named_as_such(
    pki: Path, tmp_path: Path, first_day: int, last_day: int, words: str
) -> None:
    issue(pki, tmp_path, "broker", first_day, last_day)
    tls = server_context(pki / "ca.crt", tmp_path / "broker.crt", tmp_path / "broker.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    async with server:
        connection = connect(f"localhost:{server.sockets[0].getsockname()[1]}", GATEWAY, pki)
        with pytest.raises(CertificateTimeError, match=words):
            async with connection:
                pass


async def test_a_gateways_expired_certificate_is_named_as_such(broker: Broker, tmp_path: Path) -> None:
    if broker.kind != "mosquitto":
        return  # amqtt drops the connection without a word
    issue(broker.pki, tmp_path, GATEWAY, -9, -1)
    tls = client_context(broker.pki / "ca.crt", tmp_path / f"{GATEWAY}.crt", tmp_path / f"{GATEWAY}.key")
    with pytest.raises(CertificateTimeError, match="by the broker's clock this machine's certificate has expired"):
        async with broker.connection(GATEWAY, tls=tls):
            pass


async def test_a_connection_that_a_second_client_took_over_ends_without_a_reason(broker: Broker) -> None:
    """Neither mosquitto 2.0.11 nor MQTT 3.1.1 gives one."""
    async with broker.connection(GATEWAY) as first, broker.connection(GATEWAY):
        with pytest.raises(ClosedByBrokerError):
            await first.receive(1)


@contextlib.asynccontextmanager
async def scripted(pki: Path, answer: bytes) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """A broker that accepts connection, subscription and status, then says `answer` to the first bundle."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        for data in (CONNACK, SUBACK, PUBACK, answer):
            await reader.read(65_536)
            writer.write(data)
        await reader.read(65_536)
        writer.close()

    tls = server_context(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}", connections


async def test_a_box_whose_connection_was_taken_over_waits_for_long_unless_somebody_mends_it(
    pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = make_box(pki, tmp_path, backoff_max_s=30)
    await box.seal(1)
    async with scripted(pki, TAKEN_OVER) as (endpoint, connections), running(box, endpoint):
        await eventually(lambda: box.count("uplink_reconnects_total", cause="taken-over") == 1)
        assert any(each.levelno == logging.ERROR and "no two boxes" in each.message for each in caplog.records)
        await asyncio.sleep(1)
        assert len(connections) == 1
        box.uplink.retry()
        await eventually(lambda: box.count("uplink_reconnects_total", cause="taken-over") == 2)


@pytest.mark.parametrize("code", [0x97, 0x83])
async def test_a_broker_that_has_no_room_for_now_is_asked_again_later(pki: Path, box: Box, code: int) -> None:
    await box.seal(1)
    no_room = b"\x40\x04\x00\x03" + bytes([code]) + b"\x00"
    async with scripted(pki, no_room) as (endpoint, connections), running(box, endpoint):
        await eventually(lambda: box.count("uplink_reconnects_total", cause="refused") >= 2)
        assert len(connections) >= 2
        assert (box.count("uplink_parked_bundles"), box.waiting) == (0, 1)


async def test_a_refused_publish_is_parked_told_and_sent_when_it_is_mended_and_the_service_reloaded(
    mortal_broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if mortal_broker.kind != "mosquitto":
        return  # MQTT 3.1.1 acknowledges what it denies
    box = make_box(mortal_broker.pki, tmp_path / "box")
    acl = mortal_broker.state / "acl"
    allowed = acl.read_text()
    assert mortal_broker.process

    async def serves_the_neighbour() -> bool:
        async with mortal_broker.connection("gw-002") as neighbour:
            return await neighbour.publish("v1/gw/gw-002/up/data", b"x") < FAILURE

    async def obey(rules: str) -> None:
        acl.write_text(rules)
        assert mortal_broker.process
        mortal_broker.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            while await serves_the_neighbour() != (rules == allowed):  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.05)

    await obey(allowed.replace("up/#", "elsewhere/#", 1))
    async with receiving(mortal_broker), running(box, mortal_broker.endpoint):
        await box.seal(2)
        await eventually(lambda: box.count("uplink_parked_bundles") == 2)
        assert [each for each in caplog.records if each.levelno == logging.ERROR and "0x87" in each.message]
        await obey(allowed)
        assert box.waiting == 2
        box.uplink.retry()
        await eventually(lambda: box.waiting == 0)
        await eventually(lambda: box.count("uplink_parked_bundles") == 0)


async def test_endpoints_take_turns_and_the_one_that_works_is_used(broker: Broker, box: Box) -> None:
    async with Proxy(listen=0, to=broker.port) as proxy:
        proxy.cut()
        await box.seal(1)
        async with receiving(broker), running(box, f"localhost:{proxy.port}", broker.endpoint):
            await eventually(lambda: box.waiting == 0)
            assert sum(
                box.count("uplink_reconnects_total", cause=cause) for cause in ("unreachable", "refused", "lost")
            ) in {0, 1}
