"""Broker and receiver take renewed certificates into use while both run, and nothing is lost."""

import asyncio
import contextlib
import datetime as dt
import json
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import load
from gateway.envelope.keys import Ed25519Signer
from gateway.envelope.receipt import decode_receipt
from gateway.envelope.seal import ChainWriter
from gateway.identity.files import load_private_key, load_recipient_key, verify_key
from gateway.model import Batch, Record
from gateway.receiver import reloading
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.site import maintain, publish
from gateway.receiver.worker import run
from gateway.uplink.mqtt import FAILURE, Connection
from tests.receiver.ca.conftest import DAY, broker_of, make_site
from tests.receiver.ca.test_hostile_clients import Clinic
from tests.receiver.serving import running

GATEWAY = "gw-1"


@pytest.fixture
def clinic() -> Iterator[Clinic]:
    now = dt.datetime.now(dt.UTC)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)  # mosquitto's own account must reach its files
        site = make_site(place / "site", now=now - 300 * DAY)  # so old that its servers' certificates are due
        (place / "clients").mkdir()
        with contextlib.closing(site.authority()) as authority:
            publish(site, authority, now=now)
            with broker_of(site, place / "log"):
                yield Clinic(site, authority, place / "clients")


def sealing(clinic: Clinic) -> ChainWriter:
    """What seals as the gateway, whose signer the receiver knows."""
    signer = Ed25519Signer(Ed25519PrivateKey.generate())
    entry = {"kid": signer.kid.hex(), "gateway": GATEWAY, "alg": signer.alg, "public": signer.public.hex()}
    (clinic.site.receiver / "registry.json").write_text(json.dumps({"signers": [entry]}))
    return ChainWriter(
        gateway=GATEWAY,
        chain=os.urandom(16),
        signer=signer,
        recipients=[load_recipient_key(clinic.site.receiver / "recipient-1.key").recipient],
        predecessor=None,
        random=os.urandom,
    )


async def serial_of_broker(clinic: Clinic) -> int:
    host, _, port = clinic.site.config().site.endpoints[0].rpartition(":")
    stem = clinic.client(GATEWAY)
    context = ssl.create_default_context(cafile=str(clinic.site.broker / "ca.crt"))
    context.load_cert_chain(stem.with_suffix(".crt"), stem.with_suffix(".key"))
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):  # mosquitto ends what has said nothing without a goodbye
        await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificates(path.read_bytes())[0].serial_number


async def receipted(connection: Connection, clinic: Clinic, last: int) -> None:
    """Wait until a receipt covers the bundle with this number."""
    key = verify_key(load_private_key(clinic.site.receiver / "receipt.key").public_key())
    async with asyncio.timeout(30):
        async for message in connection.messages():
            message.ack()
            if message.topic.endswith("/receipt"):
                receipt = decode_receipt(message.payload, {key.kid: key})
                if any(each.last >= last for each in receipt.ranges):
                    return


@pytest.fixture
def config(clinic: Clinic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> ReceiverConfig:
    caplog.set_level("INFO")
    monkeypatch.setattr(reloading, "_LOOK_S", 0.1)
    path = clinic.site.root / "receiver.toml"
    path.write_text(path.read_text() + '\n[metrics]\nlisten = "off"\n')
    return load(path, ReceiverConfig)


async def send(connection: Connection, writer: ChainWriter) -> None:
    now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    batch = Batch(b"\x07" * 16, (Record("C0:00:00:00:00:01", 1, 55, -1, now_ms),))
    bundle, _ = writer.seal([batch], now_ms=now_ms)
    assert await connection.publish(f"v1/gw/{GATEWAY}/up/data", bundle.data) < FAILURE


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(30):
        while not [each for each in caplog.messages if text in each]:  # noqa: ASYNC110 - logs wake nobody
            await asyncio.sleep(0.05)


async def test_both_renew_while_bundles_come_and_every_bundle_is_receipted(
    clinic: Clinic, config: ReceiverConfig, caplog: pytest.LogCaptureFixture
) -> None:
    site, writer = clinic.site, sealing(clinic)
    old = {name: serial(site.root / name / f"{name}.crt") for name in ("broker", "receiver")}
    assert await serial_of_broker(clinic) == old["broker"]
    async with running(run(config)), clinic.connection(GATEWAY) as connection:
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/receipt")
        await logged(caplog, "connected and subscribed")
        await send(connection, writer)
        await receipted(connection, clinic, 0)
        maintain(site, clinic.authority, now=dt.datetime.now(dt.UTC))
        anew = asyncio.create_task(logged(caplog, "connecting anew"))
        while not anew.done():
            await send(connection, writer)
            await asyncio.sleep(0.05)
        await anew
        await send(connection, writer)
        assert writer.head is not None
        await receipted(connection, clinic, writer.head.no)
    for name, before in old.items():
        assert serial(site.root / name / f"{name}.crt") != before
    assert await serial_of_broker(clinic) == serial(site.broker / "broker.crt")


async def test_certificates_that_do_not_fit_together_yet_change_nothing(
    clinic: Clinic, config: ReceiverConfig, caplog: pytest.LogCaptureFixture
) -> None:
    site, writer = clinic.site, sealing(clinic)
    certificate = site.receiver / "receiver.crt"
    async with running(run(config)), clinic.connection(GATEWAY) as connection:
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/receipt")
        await logged(caplog, "connected and subscribed")
        whole = certificate.read_bytes()
        certificate.write_bytes((site.broker / "broker.crt").read_bytes())
        await logged(caplog, "are not taken into use")
        await send(connection, writer)
        await receipted(connection, clinic, 0)
        certificate.write_bytes(whole)
        await logged(caplog, "connecting anew")
