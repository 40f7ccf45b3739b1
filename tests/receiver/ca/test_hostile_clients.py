"""Mosquitto as a site is shipped with it, and everybody who must not get in or further than his own topics."""

import asyncio
import contextlib
import datetime as dt
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.durable import write_once
from gateway.errors import (
    ClosedByBrokerError,
    ConnectionRefusedByBrokerError,
    SessionTakenOverError,
    UplinkError,
)
from gateway.identity.chain import pem
from gateway.identity.files import private_pem
from gateway.identity.tls import client_context
from gateway.receiver.ca.authority import TLS, Authority
from gateway.receiver.site import Site, publish
from gateway.uplink.mqtt import FAILURE, Connection
from tests.receiver.ca.conftest import DAY, broker_of, make_site, request, tls_key

NOW = dt.datetime.now(dt.UTC)
RECEIVED_S = 30.0


@dataclass
class Clinic:
    """A site whose broker runs."""

    site: Site
    authority: Authority
    place: Path

    def client(self, name: str, *, at: dt.datetime = NOW, authority: Authority | None = None) -> Path:
        """The stem of files with a fresh certificate and key for `name`, issued `at` that time."""
        ca, key = authority or self.authority, tls_key()
        secret = ca.new_code(name, now=at, valid=DAY).partition(":")[2]
        leaf = ca.enrol(request(key, name), TLS, gateway=name, code=secret, now=at)
        stem = self.place / f"{name}-{leaf.serial_number:x}"
        issuers = [each.issuer for each in ca.generations(at)]
        write_once(stem.with_suffix(".crt"), pem([leaf, *issuers]))
        write_once(stem.with_suffix(".key"), private_pem(key))
        return stem

    def context(self, stem: Path) -> ssl.SSLContext:
        return client_context(self.site.broker / "ca.crt", stem.with_suffix(".crt"), stem.with_suffix(".key"))

    def connection(self, name: str, stem: Path | None = None, *, client_id: str | None = None) -> Connection:
        return Connection(
            self.site.config().site.endpoints[0],
            client_id=name if client_id is None else client_id,
            tls=self.context(stem or self.client(name)),
            keepalive_s=20,
            timeout_s=10.0,
            clean_start=True,
            session_expiry_s=0,
            receive_maximum=16,
            will=None,
        )

    def receiver(self) -> Connection:
        return self.connection("receiver", self.site.receiver / "receiver")


@pytest.fixture(scope="module")
def clinic() -> Iterator[Clinic]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        place = Path(name)
        place.chmod(0o755)  # mosquitto's own account must reach its files
        site = make_site(place / "site", now=NOW - 20 * DAY)  # so old that a certificate of its has expired
        (place / "clients").mkdir()
        stack.enter_context(broker_of(site, place / "log"))
        authority = stack.enter_context(closing(site.authority()))
        yield Clinic(site, authority, place / "clients")


async def enters(connection: Connection, name: str = "gw-1") -> bool:
    """With TLS 1.3 a client learns of the refusal of its certificate only after its handshake."""
    try:
        async with connection:
            await connection.subscribe(f"v1/gw/{name}/down/receipt")
    except UplinkError:
        return False
    return True


async def refused(connection: Connection, name: str = "gw-1") -> None:
    assert not await enters(connection, name)


async def test_a_gateway_of_the_site_gets_in(clinic: Clinic) -> None:
    async with clinic.connection("gw-1") as connection:
        await connection.subscribe("v1/gw/gw-1/down/#")
        assert await connection.publish("v1/gw/gw-1/up/data", b"x") < FAILURE


async def test_a_certificate_of_a_rogue_ca_is_refused(clinic: Clinic, tmp_path: Path) -> None:
    rogue = make_site(tmp_path / "rogue", now=NOW)
    with closing(rogue.authority()) as authority:
        await refused(clinic.connection("gw-1", clinic.client("gw-1", authority=authority)))


async def test_nobody_gets_in_without_a_certificate(clinic: Clinic) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(clinic.site.broker / "ca.crt")
    connection = clinic.connection("gw-1")
    for dialect in connection._dialects:
        dialect["tls_context"] = bare
    await refused(connection)


@pytest.mark.parametrize("age", [15 * DAY, -2 * DAY], ids=["expired", "not yet valid"])
async def test_a_certificate_counts_only_in_its_time(clinic: Clinic, age: dt.timedelta) -> None:
    await refused(clinic.connection("gw-1", clinic.client("gw-1", at=NOW - age)))


async def test_a_revoked_certificate_is_refused_once_the_broker_was_told(clinic: Clinic) -> None:
    stem = clinic.client("gw-stolen")
    async with clinic.connection("gw-stolen", stem):
        pass
    clinic.authority.revoke("gw-stolen", now=dt.datetime.now(dt.UTC))
    publish(clinic.site, clinic.authority, now=dt.datetime.now(dt.UTC))
    async with asyncio.timeout(60):
        while await enters(clinic.connection("gw-stolen", stem), "gw-stolen"):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
    async with clinic.connection("gw-1"):
        pass


async def test_nothing_below_tls_1_3(clinic: Clinic) -> None:
    stem = clinic.client("gw-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(clinic.site.broker / "ca.crt")
    context.load_cert_chain(stem.with_suffix(".crt"), stem.with_suffix(".key"))
    host, _, port = clinic.site.config().site.endpoints[0].rpartition(":")
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection(host, int(port), ssl=context)


async def test_a_broker_of_another_name_is_not_believed(clinic: Clinic) -> None:
    host, _, port = clinic.site.config().site.endpoints[0].rpartition(":")
    context = clinic.context(clinic.client("gw-1"))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.open_connection(host, int(port), ssl=context, server_hostname="elsewhere.example")


@pytest.mark.parametrize("topic", ["v1/gw/gw-2/up/data", "v1/gw/gw-2/status", "v1/gw/gw-1/down/receipt", "other"])
async def test_nobody_publishes_for_another(clinic: Clinic, topic: str) -> None:
    async with clinic.receiver() as receiver, clinic.connection("gw-1") as connection:
        await receiver.subscribe("v1/gw/+/up/#", "v1/gw/+/status")
        assert await connection.publish(topic, b"forged") >= FAILURE
        assert await connection.publish("v1/gw/gw-1/up/data", b"own") < FAILURE
        async with asyncio.timeout(RECEIVED_S):
            [message] = await receiver.receive(1)
        assert (message.topic, message.payload) == ("v1/gw/gw-1/up/data", b"own")


@pytest.mark.parametrize("pattern", ["#", "v1/#", "v1/gw/+/up/#", "v1/gw/gw-2/down/#", "v1/gw/+/down/#", "$SYS/#"])
async def test_nobody_listens_to_another(clinic: Clinic, pattern: str) -> None:
    async with clinic.receiver() as receiver, clinic.connection("gw-1") as spy, clinic.connection("gw-2") as victim:
        with contextlib.suppress(ConnectionRefusedByBrokerError):
            await spy.subscribe(pattern)
        await spy.subscribe("v1/gw/gw-1/down/#")
        await receiver.subscribe("v1/gw/+/up/#")
        await victim.publish("v1/gw/gw-2/up/data", b"secret")
        await receiver.publish("v1/gw/gw-2/down/receipt", b"secret")
        await receiver.publish("v1/gw/gw-1/down/receipt", b"mine")
        async with asyncio.timeout(RECEIVED_S):
            [message] = await spy.receive(1)
        assert message.payload == b"mine"


@pytest.mark.parametrize("client_id", ["gw-1", "gw-2"])
async def test_two_clients_with_one_identity_notice_each_other_whatever_they_call_themselves(
    clinic: Clinic, client_id: str
) -> None:
    stem = clinic.client("gw-1")
    async with clinic.connection("gw-2") as other:
        async with clinic.connection("gw-1", stem) as first, clinic.connection("gw-1", stem, client_id=client_id):
            with pytest.raises((SessionTakenOverError, ClosedByBrokerError)):
                await first.receive(1)
        assert await other.publish("v1/gw/gw-2/up/data", b"undisturbed") < FAILURE
