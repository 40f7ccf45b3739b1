"""A throw-away PKI for development, tests and the demo: every key lies in one directory, so never use it for patients.

The profiles are `certs/profiles.toml`; the layout is described in `certs/README.md`.
"""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config import RESERVED
from gateway.durable import write_once
from gateway.envelope.keys import signer_for
from gateway.envelope.layout import GATEWAY_ID
from gateway.errors import ConfigError
from gateway.identity.files import load_certificate, load_private_key, load_recipient_key, private_pem, verify_key
from gateway.receiver.ca.issue import Issuer, Profile, certify, new_key, profiles, revocation_list, self_sign
from gateway.receiver.fleet import new_recipient_key, sign_key_list

_DAYS = 397
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    now = dt.datetime.now(dt.UTC)
    (out / "gateways").mkdir(mode=0o700, parents=True, exist_ok=True)
    issuer = _make_ca(out, now)
    make = partial(_make_certificate, issuer=issuer, now=now)
    make(out, "broker", profiles()["broker"], "broker", hosts=_LOOPBACK)
    make(out, "node", profiles()["node"], "node", hosts=_LOOPBACK)
    make(out, "receiver", profiles()["receiver"], "receiver", hosts=())
    for gateway in gateways:
        directory = out / "gateways" / gateway
        directory.mkdir(mode=0o700, exist_ok=True)
        make(directory, "tls", profiles()["gateway"], gateway, hosts=())
        make(directory, "sign", profiles()["signing"], gateway, hosts=())
    _make_fleet(out, now)
    _write_registry(out)


def _make_fleet(out: Path, now: dt.datetime) -> None:
    """The fleet's root, the receiver's keys, and the list that tells gateways of them."""
    for name in ("receipt", "fleet-root"):
        write_once(out / f"{name}.key", private_pem(new_key(profiles()["signing"])))
    root = load_private_key(out / "fleet-root.key")
    public = root.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_once(out / "fleet-root.pub", public, 0o644)
    _, line = new_recipient_key()
    write_once(out / "recipient.key", line)
    recipients = (load_recipient_key(out / "recipient.key").recipient,)
    receivers = (verify_key(load_private_key(out / "receipt.key").public_key()),)
    now_ms = int(now.timestamp() * 1000)
    write_once(out / "keys.cbor", sign_key_list(1, recipients, receivers, signer_for(root), now_ms=now_ms), 0o644)


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


def _make_ca(out: Path, now: dt.datetime) -> Issuer:
    """The CA in `out`, made if need be, with a list that revokes nobody."""
    if not (out / "ca.crt").exists():
        profile = profiles()["ca"]
        ca_key = new_key(profile)
        assert isinstance(ca_key, EllipticCurvePrivateKey)  # noqa: S101 - the profile says so
        made = self_sign(profile, "iomt-gateway CA", ca_key, now=now)
        crl = revocation_list(made, (), number=1, now=now, until=made.certificate.not_valid_after_utc)
        write_once(out / "ca.key", private_pem(ca_key))
        write_once(out / "ca.crl", crl.public_bytes(Encoding.PEM), 0o644)
        write_once(out / "ca.crt", made.certificate.public_bytes(Encoding.PEM), 0o644)
    key = load_private_key(out / "ca.key")
    assert isinstance(key, EllipticCurvePrivateKey)  # noqa: S101 - made above
    return Issuer(x509.load_pem_x509_certificate(load_certificate(out / "ca.crt")), key)


def _make_certificate(
    out: Path, file: str, profile: Profile, common_name: str, *, issuer: Issuer, now: dt.datetime, hosts: Sequence[str]
) -> None:
    """Write `file`.key and `file`.crt; for a year and a bit, whatever a site would allow."""
    write_once(out / f"{file}.key", private_pem(new_key(profile)))
    public = load_private_key(out / f"{file}.key").public_key()
    lasting = replace(profile, days=max(profile.days, _DAYS))
    certificate = certify(lasting, common_name, public, issuer=issuer, now=now, hosts=hosts)
    write_once(out / f"{file}.crt", certificate.public_bytes(Encoding.PEM), 0o644)
