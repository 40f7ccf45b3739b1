"""TLS on both sides: version 1.3 only, and both sides show a certificate (RFC 8446, 4.3.2)."""

import ssl
from pathlib import Path

from gateway.errors import IdentityError
from gateway.identity.files import read_private


def client_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """For connections to a broker: its name is checked and must be certified by `ca`. Raises `IdentityError`."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, ca, cert, key)


def server_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """For a server: a client without a certificate from `ca` is refused. Raises `IdentityError`."""
    return _context(ssl.PROTOCOL_TLS_SERVER, ca, cert, key)


def _context(protocol: int, ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    read_private(key)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"{ca}: is not a readable CA certificate: {error}") from error
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"{cert}: is no certificate for the key {key}: {error}") from error
    return context
