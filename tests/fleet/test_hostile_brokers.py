"""NATS and RabbitMQ as shipped, and everybody who must not get in or further than his own topics.

Both speak MQTT 3.1.1: what is denied is not told, and RabbitMQ ends the connection. Mosquitto has the same tests in
`tests/receiver/ca`.
"""

import asyncio
import contextlib
import datetime as dt
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.errors import ClosedByBrokerError, SessionTakenOverError, TlsRefusedError, UplinkError
from gateway.identity.chain import pem
from gateway.identity.files import load_private_key, private_pem
from gateway.identity.tls import ClientContext, client_context
from gateway.lab import nats, rabbitmq
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import free_port
from gateway.receiver.ca.issue import Issuer, certify, new_key, profiles, revocation_list
from gateway.uplink.mqtt import FAILURE, Connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)
GATEWAYS = ("gw-1", "gw-2", "gw-stolen")
RECEIVED_S = 30.0


def issuer(pki: Path) -> Issuer:
    key = load_private_key(pki / "ca.key")
    assert isinstance(key, EllipticCurvePrivateKey)
    return Issuer(x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()), key)


@dataclass
class Place:
    """A broker that runs, and the CA that it believes."""

    kind: str
    pki: Path
    endpoint: str
    clients: Path
    serials: dict[str, int] = field(default_factory=dict)

    def client(self, name: str, *, at: dt.datetime = NOW, ca: Issuer | None = None) -> Path:
        """The stem of files with a fresh certificate and key for `name`, issued `at` that time."""
        key = new_key(profiles()["gateway"])
        leaf = certify(profiles()["gateway"], name, key.public_key(), issuer=ca or issuer(self.pki), now=at)
        stem = self.clients / f"{name}-{leaf.serial_number:x}"
        stem.with_suffix(".crt").write_bytes(pem([leaf]))
        stem.with_suffix(".key").write_bytes(private_pem(key))
        stem.with_suffix(".key").chmod(0o600)
        self.serials[stem.name] = leaf.serial_number
        return stem

    def context(self, stem: Path) -> ClientContext:
        return client_context(self.pki / "ca.crt", stem.with_suffix(".crt"), stem.with_suffix(".key"))

    def connection(self, name: str, stem: Path | None = None, *, client_id: str | None = None) -> Connection:
        return Connection(
            self.endpoint,
            client_id=client_id or name,
            tls=self.context(stem or self.client(name)),
            keepalive_s=20,
            timeout_s=20.0,
            clean_start=True,
            session_expiry_s=0,
            receive_maximum=16,
            will=None,
        )

    def receiver(self) -> Connection:
        return self.connection("receiver", self.pki / "receiver")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["nats", "rabbitmq"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        pki, clients = directory / "pki", directory / "clients"
        clients.mkdir()
        make_dev_pki(pki, GATEWAYS)
        if request.param == "rabbitmq":
            if rabbitmq.program() is None:
                pytest.skip("rabbitmq-server is not installed; on Debian: apt install rabbitmq-server")
            port = free_port()
            start = rabbitmq.running(pki, directory / "rabbitmq", port, GATEWAYS)
            await asyncio.to_thread(stack.enter_context, start)
            yield Place("rabbitmq", pki, f"127.0.0.1:{port}", clients)
            return
        if nats.program() is None:
            pytest.skip("nats-server is not installed; on Debian: apt install nats-server")
        nodes = nats.Nodes(directory / "nats", pki, GATEWAYS)
        for number in range(nats.NODES):
            await nodes.start(number)
        try:
            await nodes.prepare(client_context(pki / "ca.crt", pki / "receiver.crt", pki / "receiver.key"))
            yield Place("nats", pki, nodes.mqtt[0], clients)
        finally:
            await nodes.stop()


async def refused(connection: Connection, name: str = "gw-1") -> None:
    with pytest.raises((TlsRefusedError, UplinkError)):
        async with connection:
            await connection.subscribe(f"v1/gw/{name}/down/receipt")


async def test_a_gateway_and_the_receiver_reach_each_other(place: Place) -> None:
    async with place.receiver() as receiver, place.connection("gw-1") as connection, asyncio.timeout(RECEIVED_S):
        await receiver.subscribe("v1/gw/+/up/data", "v1/gw/+/status")
        await connection.subscribe("v1/gw/gw-1/down/#")
        assert await connection.publish("v1/gw/gw-1/up/data", b"bundle") < FAILURE
        [message] = await receiver.receive(1)
        assert (message.topic, message.payload) == ("v1/gw/gw-1/up/data", b"bundle")
        assert await receiver.publish("v1/gw/gw-1/down/receipt", b"receipt") < FAILURE
        [message] = await connection.receive(1)
        assert (message.topic, message.payload) == ("v1/gw/gw-1/down/receipt", b"receipt")


async def test_a_certificate_of_a_rogue_ca_is_refused(place: Place, tmp_path: Path) -> None:
    make_dev_pki(tmp_path, [])
    await refused(place.connection("gw-1", place.client("gw-1", ca=issuer(tmp_path))))


async def test_nobody_gets_in_without_a_certificate(place: Place) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(place.pki / "ca.crt")
    connection = place.connection("gw-1")
    for dialect in connection._dialects:
        dialect["tls_context"] = bare
    await refused(connection)


async def test_nobody_gets_in_whom_the_broker_does_not_know(place: Place) -> None:
    await refused(place.connection("gw-unknown"), "gw-unknown")


@pytest.mark.parametrize("age", [15 * DAY, -2 * DAY], ids=["expired", "not yet valid"])
async def test_a_certificate_counts_only_in_its_time(place: Place, age: dt.timedelta) -> None:
    await refused(place.connection("gw-1", place.client("gw-1", at=NOW - age)))


async def test_nothing_below_tls_1_3(place: Place) -> None:
    stem = place.client("gw-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(place.pki / "ca.crt")
    context.load_cert_chain(stem.with_suffix(".crt"), stem.with_suffix(".key"))
    host, _, port = place.endpoint.rpartition(":")
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection(host, int(port), ssl=context)


async def test_a_broker_of_another_name_is_not_believed(place: Place) -> None:
    host, _, port = place.endpoint.rpartition(":")
    context = place.context(place.client("gw-1"))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.open_connection(host, int(port), ssl=context, server_hostname="elsewhere.example")


@pytest.mark.parametrize("topic", ["v1/gw/gw-2/up/data", "v1/gw/gw-2/status", "v1/gw/gw-1/down/receipt", "other"])
async def test_nobody_publishes_for_another(place: Place, topic: str) -> None:
    async with place.receiver() as receiver:
        await receiver.subscribe("v1/gw/+/up/data", "v1/gw/+/status")
        with contextlib.suppress(UplinkError, TimeoutError):
            async with place.connection("gw-1") as forger, asyncio.timeout(2):
                await forger.publish(topic, b"forged")
        async with place.connection("gw-1") as connection, asyncio.timeout(RECEIVED_S):
            assert await connection.publish("v1/gw/gw-1/up/data", b"own") < FAILURE
            [message] = await receiver.receive(1)
            assert (message.topic, message.payload) == ("v1/gw/gw-1/up/data", b"own")


@pytest.mark.parametrize("pattern", ["#", "v1/#", "v1/gw/+/up/#", "v1/gw/gw-2/down/#", "v1/gw/+/down/#"])
async def test_nobody_listens_to_another(place: Place, pattern: str) -> None:
    async with place.receiver() as receiver, place.connection("gw-2") as victim, place.connection("gw-1") as spy:
        await receiver.subscribe("v1/gw/+/up/data")
        with contextlib.suppress(UplinkError, TimeoutError):
            async with asyncio.timeout(5):
                await spy.subscribe(pattern)
        await victim.publish("v1/gw/gw-2/up/data", b"secret")
        await receiver.publish("v1/gw/gw-2/down/receipt", b"secret")
        with pytest.raises((UplinkError, TimeoutError)):
            async with asyncio.timeout(1.5):
                await spy.receive(1)


async def test_two_clients_with_one_identity_notice_each_other(place: Place) -> None:
    stem = place.client("gw-1")
    async with place.connection("gw-1", stem) as first, place.connection("gw-1", stem) as second:
        with pytest.raises((SessionTakenOverError, ClosedByBrokerError)):
            async with asyncio.timeout(RECEIVED_S):
                await first.receive(1)
        assert await second.publish("v1/gw/gw-1/up/data", b"mine") < FAILURE


async def test_a_revoked_certificate_is_refused_by_who_reads_revocation_lists(place: Place) -> None:
    stem = place.client("gw-stolen")
    async with place.connection("gw-stolen", stem):
        pass
    if place.kind == "nats":
        return  # it reads none: a gateway goes by its line in users.conf, which `nats-users` leaves out then
    now = dt.datetime.now(dt.UTC)
    crl = revocation_list(issuer(place.pki), [(place.serials[stem.name], now)], number=2, now=now, until=now + 30 * DAY)
    (place.pki / "ca.crl").write_bytes(crl.public_bytes(Encoding.PEM))
    rabbitmq.publish_lists(place.pki, place.pki.parent / "rabbitmq")
    await refused(place.connection("gw-stolen", stem), "gw-stolen")
    async with place.connection("gw-1"):
        pass
