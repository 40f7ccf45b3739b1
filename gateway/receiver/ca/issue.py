"""Certificates and revocation lists as `certs/profiles.toml` wants them (RFC 5280). Sans-IO, but for the profiles."""

import datetime as dt
import ipaddress
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from gateway.identity.chain import USAGES
from gateway.identity.files import PrivateKey, PublicKey

_BACKDATED = dt.timedelta(hours=1)
"""For peers whose clock is a little behind."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a certificate may be used for, for how long, and with which key."""

    key: str
    days: float
    usage: str | None = None
    path_length: int | None = None
    """None: a leaf. Otherwise a CA, above that many others."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA's certificate, with its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


@cache
def profiles() -> Mapping[str, Profile]:
    """Every profile by name."""
    text = resources.files("certs").joinpath("profiles.toml").read_text(encoding="utf-8")
    return {name: Profile(**values) for name, values in tomllib.loads(text).items()}


def new_key(profile: Profile) -> PrivateKey:
    """A fresh key of the profile's kind."""
    return Ed25519PrivateKey.generate() if profile.key == "ed25519" else generate_private_key(SECP256R1())


def certify(
    profile: Profile,
    common_name: str,
    public: PublicKey,
    *,
    issuer: Issuer,
    now: dt.datetime,
    hosts: Iterable[str] = (),
) -> x509.Certificate:
    """A certificate by `issuer`, never valid beyond it; `hosts` are the DNS names and IP addresses of a server."""
    builder = _builder(
        profile, common_name, public, now=now, latest=issuer.certificate.not_valid_after_utc, hosts=hosts
    )
    return _signed(builder, issuer.certificate.subject, issuer.key)


def self_sign(profile: Profile, common_name: str, key: EllipticCurvePrivateKey, *, now: dt.datetime) -> Issuer:
    """A root: a CA's certificate by itself."""
    forever = dt.datetime.max.replace(tzinfo=dt.UTC)
    builder = _builder(profile, common_name, key.public_key(), now=now, latest=forever, hosts=())
    return Issuer(_signed(builder, _name(common_name), key), key)


def _builder(
    profile: Profile,
    common_name: str,
    public: PublicKey,
    *,
    now: dt.datetime,
    latest: dt.datetime,
    hosts: Iterable[str],
) -> x509.CertificateBuilder:
    is_ca = profile.path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + dt.timedelta(days=profile.days), latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=profile.path_length), critical=True)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
    )
    if profile.usage is not None:
        purposes = [USAGES[each] for each in profile.usage.split("+")]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = [_host(each) for each in hosts]
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else builder


def _signed(builder: x509.CertificateBuilder, name: x509.Name, key: EllipticCurvePrivateKey) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.issuer_name(name).add_extension(authority, critical=False).sign(key, SHA256())


def revocation_list(
    issuer: Issuer,
    revoked: Iterable[tuple[int, dt.datetime]],
    *,
    number: int,
    now: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateRevocationList:
    """The CRL of `issuer`: serial numbers and when they were revoked; the next one comes before `until`."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - _BACKDATED)
        .next_update(until)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


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
