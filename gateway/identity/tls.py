"""TLS on both sides: version 1.3 only, and both sides show a certificate (RFC 8446, 4.3.2).

OpenSSL checks the chain. A client also refuses a server whose certificate is on the CA's revocation list, however old
that list is: an outage must not lock a gateway out. A client whose clock cannot be right, as it is before the birth of
its own certificate, judges time by that.
"""

import datetime as dt
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from cryptography import x509

from gateway.config import IdentitySection
from gateway.errors import IdentityError
from gateway.identity.files import load_certificate, read_private
from gateway.identity.provider import provider

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME."""
_EXPIRED, REVOKED = 10, 23
"""X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_REVOKED."""


class ClientContext(ssl.SSLContext):
    """A client's context, which judges a server beyond what OpenSSL does."""

    revoked: frozenset[int] = frozenset()
    """Serial numbers that must not be believed."""
    floor: dt.datetime | None = None
    """Set where the system's clock is wrong: it is later than this."""
    inside: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around every use of the key."""

    def judge(self, certificate: bytes) -> None:
        """Raise `ssl.SSLCertVerificationError` unless a server's certificate (DER) may be believed."""
        server = x509.load_der_x509_certificate(certificate)
        if server.serial_number in self.revoked:
            raise _refusal(REVOKED, "the server's certificate is revoked")
        if self.floor is not None and server.not_valid_after_utc <= self.floor:
            raise _refusal(_EXPIRED, "the server's certificate has expired")


class ClientSocket(ssl.SSLSocket):
    """A client's socket, which lets its context judge the server at the end of the handshake."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        """As usual. Raises `OSError`."""
        around = self.context.inside if isinstance(self.context, ClientContext) else nullcontext
        with around():
            super().do_handshake(block)
        certificate = self.getpeercert(binary_form=True)
        if isinstance(self.context, ClientContext) and certificate is not None:
            self.context.judge(certificate)


def gateway_context(identity: IdentitySection) -> ClientContext:
    """For a gateway's connections, with its key where `identity.keys` says. Raises `IdentityError`."""
    inside = provider(identity.tpm).inside if identity.keys == "tpm" else nullcontext
    with inside():
        context = client_context(identity.ca, identity.tls_cert, identity.tls_key)
    context.inside = inside
    return context


def client_context(ca: Path, cert: Path, key: Path) -> ClientContext:
    """For connections to a server: its name is checked and must be certified by `ca`.

    A file beside `ca` with the suffix `.crl` says who is revoked. Raises `IdentityError`.
    """
    context = anonymous_context(ca, cert)
    _show(context, cert, key)
    return context


def anonymous_context(ca: Path, cert: Path) -> ClientContext:
    """The same, but no certificate is shown: the one in `cert` only tells what time it is at least."""
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _believe(context, ca)
    context.sslsocket_class = ClientSocket
    own = x509.load_pem_x509_certificates(load_certificate(cert))[0]
    if dt.datetime.now(dt.UTC) < own.not_valid_before_utc:
        context.verify_flags |= _NO_CHECK_TIME
        context.floor = own.not_valid_before_utc
    context.revoked = load_revoked(ca.with_suffix(".crl"))
    return context


def server_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """For a server: a client without a certificate from `ca` is refused. Raises `IdentityError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _believe(context, ca)
    _show(context, cert, key)
    return context


def scrape_context(files: tuple[Path, Path, Path] | None) -> ssl.SSLContext | None:
    """For the metrics server: `MetricsSection.tls` (CA, certificate, key). Raises `IdentityError`."""
    return None if files is None else server_context(*files)


def crl_expiry_s(path: Path) -> float:
    """When the first of the lists in a file ends, in seconds since 1970; 0 if there is none that can be read."""
    try:
        lists = load_crls(path.read_bytes())
    except (OSError, IdentityError):
        return 0.0
    return min((each.next_update_utc.timestamp() for each in lists if each.next_update_utc), default=0.0)


def load_crls(data: bytes) -> list[x509.CertificateRevocationList]:
    """The lists (PEM) that a file or a server holds together. Raises `IdentityError`."""
    end = b"-----END X509 CRL-----\n"
    try:
        return [x509.load_pem_x509_crl(part + end) for part in data.split(end) if part.strip()]
    except ValueError as error:
        raise IdentityError(f"not a revocation list in PEM: {error}") from error


def load_revoked(path: Path) -> frozenset[int]:
    """The serial numbers on the lists in a file; nobody's if there is none. Raises `IdentityError`."""
    try:
        lists = load_crls(path.read_bytes())
    except FileNotFoundError:
        return frozenset()
    except (OSError, IdentityError) as error:
        raise IdentityError(f"{path}: {error}") from error
    return frozenset(each.serial_number for crl in lists for each in crl)


def _believe(context: ssl.SSLContext, ca: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"{ca}: is not a readable CA certificate: {error}") from error


def _show(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    read_private(key)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"{cert}: is no certificate for the key {key}: {error}") from error


def _refusal(code: int, reason: str) -> ssl.SSLCertVerificationError:
    """The error as OpenSSL's own refusals look."""
    error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, reason)
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    error.verify_code, error.verify_message = code, reason
    return error
