"""Whether a certificate may be believed: its chain, time, owner and purpose (RFC 5280)."""

import datetime as dt
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from gateway.errors import IdentityError

USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "sign": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),  # document signing (RFC 9336): no TLS peer takes it
}


def owner(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The one common name that is the whole subject. Raises `IdentityError` for any other subject."""
    names = list(certificate.subject)
    if len(names) != 1 or names[0].oid != NameOID.COMMON_NAME:
        raise IdentityError(f"subject is {certificate.subject.rfc4514_string() or 'empty'}, not one common name")
    return str(names[0].value)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, in hex."""
    return certificate.fingerprint(SHA256()).hex()


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates as files keep them."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def p256_key(certificate: x509.Certificate) -> EllipticCurvePublicKey:
    """The key of a certificate that TLS or a CA uses. Raises `IdentityError` for any other kind."""
    key = certificate.public_key()
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise IdentityError(f"certificate of {certificate.subject.rfc4514_string()}: its key is not P-256")
    return key


def verify_chain(
    leaf: x509.Certificate,
    *,
    roots: Sequence[x509.Certificate],
    issuers: Sequence[x509.Certificate],
    usage: str,
    at: dt.datetime,
) -> None:
    """Raise `IdentityError` unless one of `roots` certifies `leaf`, perhaps through `issuers`, for this one `usage`.

    Time is judged `at` that moment. Revocation is not looked at.
    """
    policy = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(at)
        .max_chain_depth(2)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
    )
    try:
        policy.build_client_verifier().verify(leaf, list(issuers))
        purposes = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (VerificationError, x509.ExtensionNotFound, ValueError) as error:
        raise IdentityError(f"certificate of {leaf.subject.rfc4514_string()} is not to be believed: {error}") from error
    if purposes != [USAGES[usage]]:
        raise IdentityError(f"certificate of {leaf.subject.rfc4514_string()} is not for use as {usage!r}")


def trusted_roots(known: Sequence[x509.Certificate], offered: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """`known`, and those `offered` whose key a root that is trusted already has certified (RFC 7030, 4.1.3)."""
    trusted = list(known)
    fresh = [each for each in offered if each.issuer == each.subject and each not in trusted]
    while vouched := [each for each in fresh if any(_vouches(root, each, offered) for root in trusted)]:
        trusted += vouched
        fresh = [each for each in fresh if each not in vouched]
    return trusted


def issued_by(roots: Sequence[x509.Certificate], offered: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Those `offered` that one of `roots` has signed."""
    return [each for each in offered if any(_signed(each, root) for root in roots)]


def _signed(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _vouches(root: x509.Certificate, fresh: x509.Certificate, links: Sequence[x509.Certificate]) -> bool:
    """Whether one of `links` is the key and name of `fresh`, certified by `root` as a CA."""
    for link in links:
        if (link.subject, link.public_key(), link.issuer) != (fresh.subject, fresh.public_key(), root.subject):
            continue
        try:
            link.verify_directly_issued_by(root)
            if link.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                return True
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            continue
    return False
