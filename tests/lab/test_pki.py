"""The throw-away PKI: complete, private, idempotent, and accepted by whoever reads it."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.envelope.keylist import decode_key_list
from gateway.envelope.keys import signer_for
from gateway.identity.files import load_private_key, load_recipient_key, load_registry, load_verify_key
from gateway.lab.pki import make_dev_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pki")
    make_dev_pki(out, ["gw-001", "gw-002"])
    return out


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_secret_is_its_owners_alone(pki: Path) -> None:
    keys = list(pki.rglob("*.key"))
    assert len(keys) == 11
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


@pytest.mark.parametrize(
    ("name", "common_name"),
    [
        ("broker", "broker"),
        ("receiver", "receiver"),
        ("gateways/gw-001/tls", "gw-001"),
        ("gateways/gw-002/sign", "gw-002"),
    ],
)
def test_every_leaf_is_signed_by_the_ca_names_its_owner_and_fits_its_key(
    pki: Path, name: str, common_name: str
) -> None:
    leaf = certificate(pki / f"{name}.crt")
    leaf.verify_directly_issued_by(certificate(pki / "ca.crt"))
    assert [each.value for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [common_name]
    assert leaf.public_key() == load_private_key(pki / f"{name}.key").public_key()
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_client_certificate_is_no_server_certificate(pki: Path) -> None:
    usages = {
        name: list(certificate(pki / f"{name}.crt").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        for name in ("broker", "receiver", "gateways/gw-001/tls")
    }
    assert usages == {
        "broker": [ExtendedKeyUsageOID.SERVER_AUTH],
        "receiver": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "gateways/gw-001/tls": [ExtendedKeyUsageOID.CLIENT_AUTH],
    }


def test_the_key_list_verifies_and_names_recipient_and_receiver(pki: Path) -> None:
    data = (pki / "keys.cbor").read_bytes()
    key_list = decode_key_list(data, load_verify_key(pki / "fleet-root.pub"), allow_classical=False)
    assert [each.kid for each in key_list.recipients] == [load_recipient_key(pki / "recipient.key").kid]
    assert [each.kid for each in key_list.receivers] == [signer_for(load_private_key(pki / "receipt.key")).kid]


def test_the_registry_names_each_gateways_signer(pki: Path) -> None:
    registry = load_registry(pki / "registry.json")
    for gateway in ("gw-001", "gw-002"):
        kid = signer_for(load_private_key(pki / "gateways" / gateway / "sign.key")).kid
        assert registry[kid][0] == gateway


def test_a_second_run_keeps_what_exists_and_adds_gateways(tmp_path: Path) -> None:
    make_dev_pki(tmp_path, ["gw-001"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"}
    make_dev_pki(tmp_path, ["gw-001", "gw-003"])
    assert {path: path.read_bytes() for path in before} == before
    assert {gateway for gateway, _ in load_registry(tmp_path / "registry.json").values()} == {"gw-001", "gw-003"}
