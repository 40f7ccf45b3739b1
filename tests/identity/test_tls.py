"""TLS contexts: version 1.3, certificates on both sides, and errors that name the file."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.errors import IdentityError
from gateway.identity.files import load_private_key
from gateway.identity.tls import client_context, crl_expiry_s, server_context
from gateway.lab.pki import make_dev_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pki")
    make_dev_pki(out, ["gw-001"])
    return out


@pytest.mark.parametrize("make", [client_context, server_context])
def test_nothing_below_tls_1_3_and_nobody_without_a_certificate(pki: Path, make: type) -> None:
    context = make(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_client_checks_the_brokers_name(pki: Path) -> None:
    assert client_context(pki / "ca.crt", pki / "receiver.crt", pki / "receiver.key").check_hostname


@pytest.mark.parametrize(
    ("ca", "cert", "key", "named"),
    [
        ("missing", "broker.crt", "broker.key", "missing"),
        ("broker.key", "broker.crt", "broker.key", "broker.key"),
        ("ca.crt", "missing", "broker.key", "missing"),
        ("ca.crt", "receiver.crt", "broker.key", "receiver.crt"),
        ("ca.crt", "broker.crt", "missing", "missing"),
    ],
)
def test_a_file_that_does_not_fit_is_named(pki: Path, ca: str, cert: str, key: str, named: str) -> None:
    with pytest.raises(IdentityError, match=f"^{pki / named}"):
        client_context(pki / ca, pki / cert, pki / key)


def test_the_end_of_a_revocation_list_is_told_and_0_without_one(pki: Path, tmp_path: Path) -> None:
    issuer = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()).subject
    ends = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    crl = x509.CertificateRevocationListBuilder(issuer).last_update(ends - dt.timedelta(days=30)).next_update(ends)
    path = tmp_path / "ca.crl"
    assert crl_expiry_s(path) == 0
    path.write_bytes(crl.sign(load_private_key(pki / "ca.key"), SHA256()).public_bytes(Encoding.PEM))
    assert crl_expiry_s(path) == ends.timestamp()
    path.write_text("nonsense")
    assert crl_expiry_s(path) == 0
