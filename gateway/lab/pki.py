"""A throw-away PKI for development, tests and the demo: every key lies in one directory, so never use it for patients.

The profiles are `certs/profiles.toml`; the layout is described in `certs/README.md`.
"""

import datetime as dt
import ipaddress
import json
import os
import time
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.config import RESERVED
from gateway.envelope.keylist import KeyList, encode_key_list
from gateway.envelope.keys import signer_for
from gateway.envelope.layout import GATEWAY_ID
from gateway.errors import ConfigError
from gateway.identity.files import PrivateKey, load_certificate, load_private_key, load_recipient_key, verify_key

_DAY_MS = 86_400_000
_USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "sign": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),  # document signing (RFC 9336): no TLS peer takes it
}


def make_dev_pki(out: Path, gateways: Sequence[str]) -> None:
    """Make what is missing in `out`: CA, broker, receiver, fleet root, key list, and one identity per gateway id.

    What exists is kept, so that more gateways can be added later. Raises `IdentityError` if it cannot be read,
    `ConfigError` for an id that no gateway can have or a directory that cannot be written.
    """
    for gateway in gateways:
        if not GATEWAY_ID.fullmatch(gateway) or gateway in RESERVED:
            raise ConfigError(f"{gateway!r}: no gateway can have this id; use [A-Za-z0-9_-], and not {RESERVED}")
    try:
        _make(out, gateways)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error


def _make(out: Path, gateways: Sequence[str]) -> None:
    profiles = tomllib.loads(resources.files("certs").joinpath("profiles.toml").read_text(encoding="utf-8"))
    (out / "gateways").mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_certificate(out, "ca", profiles["ca"], profiles["ca"]["common_name"], issuer=None)
    for name in ("broker", "receiver"):
        _make_certificate(out, name, profiles[name], profiles[name]["common_name"], issuer=out)
    for gateway in gateways:
        directory = out / "gateways" / gateway
        directory.mkdir(mode=0o700, exist_ok=True)
        _make_certificate(directory, "tls", profiles["gateway"], gateway, issuer=out)
        _make_certificate(directory, "sign", profiles["signing"], gateway, issuer=out)
    for name in ("receipt", "fleet-root"):
        _make_key(out / f"{name}.key", "ed25519")
    root = load_private_key(out / "fleet-root.key").public_key()
    _write_once(out / "fleet-root.pub", root.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    _write_once(out / "recipient.key", f"xwing:{os.urandom(32).hex()}\n".encode(), 0o600)
    _make_key_list(out)
    _write_registry(out)


def _make_key_list(out: Path) -> None:
    if (out / "keys.cbor").exists():
        return
    now_ms = time.time_ns() // 1_000_000
    key_list = KeyList(
        serial=1,
        not_before_ms=now_ms - _DAY_MS,
        not_after_ms=now_ms + 397 * _DAY_MS,
        recipients=(load_recipient_key(out / "recipient.key").recipient,),
        receivers=(verify_key(load_private_key(out / "receipt.key").public_key()),),
    )
    signed = encode_key_list(key_list, signer_for(load_private_key(out / "fleet-root.key")))
    _write_once(out / "keys.cbor", signed, 0o644)


def _write_registry(out: Path) -> None:
    """Name the signer of every gateway that has an identity here."""
    signers = []
    for directory in sorted((out / "gateways").iterdir()):
        key = verify_key(load_private_key(directory / "sign.key").public_key())
        signers.append(
            {"kid": key.kid.hex(), "gateway": directory.name, "alg": key.alg, "public": key.public.hex()},
        )
    fresh = out / "registry.json.new"
    fresh.write_text(json.dumps({"signers": signers}, indent=1) + "\n", encoding="utf-8")
    fresh.replace(out / "registry.json")


def _make_certificate(out: Path, name: str, profile: dict[str, Any], common_name: str, *, issuer: Path | None) -> None:
    """Write `name`.key and `name`.crt, signed by the CA in `issuer` or, without one, by itself."""
    certificate = out / f"{name}.crt"
    _make_key(out / f"{name}.key", profile["key"])
    if certificate.exists():
        return
    key = load_private_key(out / f"{name}.key")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=profile["days"]))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), critical=True
        )
        .add_extension(_key_usage(is_ca=issuer is None), critical=True)
    )
    if "usage" in profile:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[profile["usage"]]]), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in profile.get("names", ())]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in profile.get("addresses", ())]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer_key, issuer_name = key, subject
    if issuer is not None:
        issuer_key = load_private_key(issuer / "ca.key")
        issuer_name = x509.load_pem_x509_certificate(load_certificate(issuer / "ca.crt")).subject
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    signed = (
        builder.issuer_name(issuer_name)
        .add_extension(authority, critical=False)
        .sign(issuer_key, SHA256() if isinstance(issuer_key, EllipticCurvePrivateKey) else None)
    )
    _write_once(certificate, signed.public_bytes(Encoding.PEM), 0o644)


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _make_key(path: Path, kind: str) -> None:
    key: PrivateKey = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_private_key(SECP256R1())
    _write_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet; never readable by others before its mode is set."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
