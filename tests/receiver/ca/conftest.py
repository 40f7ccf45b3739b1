"""A site made by `init`'s own code, and requests that a gateway would make."""

import base64
import datetime as dt
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.identity.files import PrivateKey
from gateway.lab import mosquitto
from gateway.lab.site import free_port
from gateway.receiver.ca.authority import Authority
from gateway.receiver.site import Site, create

NOW = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
GATEWAY = "gw-001"


def make_site(root: Path, *, now: dt.datetime, passphrase: bytes | None = None) -> Site:
    return create(
        root,
        "localhost",
        broker_port=free_port(),
        enrolment_port=free_port(),
        passphrase=passphrase,
        with_receiver=True,
        now=now,
    )


@contextmanager
def broker_of(site: Site, log: Path) -> Iterator[None]:
    """Run mosquitto as the site configured it; it listens when this yields."""
    program = mosquitto.program()
    if program is None:
        pytest.skip("mosquitto is not installed; on Debian: apt install mosquitto")
    with ExitStack() as stack:
        file = stack.enter_context(log.open("wb"))
        broker = subprocess.Popen([program, "-c", str(site.broker / "mosquitto.conf")], stdout=file, stderr=file)
        stack.callback(broker.wait)
        stack.callback(broker.kill)
        port = int(site.config().site.endpoints[0].rpartition(":")[2])
        deadline = time.monotonic() + 15
        while True:
            with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
                break
            assert broker.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", now=NOW)


@pytest.fixture
def authority(site: Site) -> Iterator[Authority]:
    with closing(site.authority()) as authority:
        yield authority


def tls_key() -> PrivateKey:
    return generate_private_key(SECP256R1())


def signing_key() -> PrivateKey:
    return Ed25519PrivateKey.generate()


def request(key: PrivateKey, *names: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names or (GATEWAY,)])
    algorithm = None if isinstance(key, Ed25519PrivateKey) else SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm).public_bytes(Encoding.DER)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)
