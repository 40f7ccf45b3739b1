"""Keys and certificates in files: what is accepted, and what every refusal tells."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.envelope.keys import signer_for
from gateway.errors import IdentityError
from gateway.identity import files

ED25519 = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65_537, 2048)


def pem(key: files.PrivateKey | rsa.RSAPrivateKey, *, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_pem(key: files.PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(content: bytes | str, mode: int = 0o600) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("key", [ED25519, P256])
def test_ed25519_and_p256_keys_are_read(put: Callable[..., Path], key: files.PrivateKey) -> None:
    loaded = files.load_private_key(put(pem(key)))
    assert public_pem(loaded) == public_pem(key)


@pytest.mark.parametrize("key", [ED25519, P256])
def test_a_public_key_verifies_what_its_private_key_signed(put: Callable[..., Path], key: files.PrivateKey) -> None:
    signer = signer_for(key)
    verify = files.load_verify_key(put(public_pem(key)))
    assert verify.kid == signer.kid
    verify.verify(signer.sign(b"message"), b"message")


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", pem(P384), pem(RSA), pem(ED25519, password=b"secret"), public_pem(ED25519)]
)
def test_anything_else_is_no_private_key(put: Callable[..., Path], content: bytes) -> None:
    with pytest.raises(IdentityError, match="file"):
        files.load_private_key(put(content))


@pytest.mark.parametrize("content", [b"", b"nonsense", public_pem(P384), public_pem(RSA), pem(ED25519)])
def test_anything_else_is_no_public_key(put: Callable[..., Path], content: bytes) -> None:
    with pytest.raises(IdentityError, match="file"):
        files.load_verify_key(put(content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o611, 0o644])
def test_a_key_that_others_may_use_is_refused_with_the_command_that_mends_it(
    put: Callable[..., Path], mode: int
) -> None:
    path = put(pem(ED25519), mode)
    with pytest.raises(IdentityError, match=f"chmod 600 {path}"):
        files.load_private_key(path)


def test_root_may_read_what_belongs_to_the_owner_of_its_directory(
    put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(pem(ED25519))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    files.load_private_key(path)


def test_a_key_of_another_user_is_refused_with_the_command_that_mends_it(
    put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(pem(ED25519))
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(IdentityError, match="chown"):
        files.load_private_key(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for load in (files.load_private_key, files.load_certificate, files.load_verify_key, files.load_registry):
        with pytest.raises(IdentityError, match="missing: cannot be read: No such file"):
            load(tmp_path / "missing")


def test_what_is_no_certificate_is_refused(put: Callable[..., Path]) -> None:
    with pytest.raises(IdentityError, match="not a certificate"):
        files.load_certificate(put(pem(ED25519)))


@pytest.mark.parametrize(("name", "alg"), [("xwing", -70050), ("x25519", 50)])
def test_a_recipient_key_says_its_kind(put: Callable[..., Path], name: str, alg: int) -> None:
    key = files.load_recipient_key(put(f"{name}:{bytes(range(32)).hex()}\n"))
    assert (key.alg, key.private) == (alg, bytes(range(32)))


@pytest.mark.parametrize(
    "text", ["", "xwing", "xwing:", "xwing:zz", f"rsa:{bytes(32).hex()}", f"xwing:{bytes(31).hex()}"]
)
def test_anything_else_is_no_recipient_key(put: Callable[..., Path], text: str) -> None:
    with pytest.raises(IdentityError, match="xwing:HEX or x25519:HEX"):
        files.load_recipient_key(put(text))


def test_a_key_that_two_gateways_claim_is_refused(put: Callable[..., Path]) -> None:
    key = files.verify_key(ED25519.public_key())
    signers = [
        {"kid": key.kid.hex(), "gateway": gateway, "alg": key.alg, "public": key.public.hex()}
        for gateway in ("gw-001", "gw-002")
    ]
    with pytest.raises(IdentityError, match="signs for gw-001 and for gw-002"):
        files.load_registry(put(json.dumps({"signers": signers})))


def test_the_registry_maps_kids_to_gateways(put: Callable[..., Path]) -> None:
    key = files.verify_key(ED25519.public_key())
    signer = {"kid": key.kid.hex(), "gateway": "gw-001", "alg": -8, "public": key.public.hex()}
    assert files.load_registry(put(json.dumps({"signers": [signer]}))) == {key.kid: ("gw-001", key)}


@pytest.mark.parametrize(
    "signers",
    [
        None,
        [{}],
        [{"kid": "00" * 16, "gateway": "gw-001", "alg": -8, "public": "11" * 32}],
        [{"kid": "zz", "gateway": "gw-001", "alg": -8, "public": "zz"}],
        ["text"],
    ],
)
def test_a_registry_that_says_something_else_is_refused(put: Callable[..., Path], signers: object) -> None:
    with pytest.raises(IdentityError, match="file"):
        files.load_registry(put(json.dumps({"signers": signers})))
