"""Tries the way to a server, step by step, as far as it goes. It says nothing but TLS: no session is taken over."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from gateway.control.doctor.way import Step, Tried

_CONNECT_S: Final = 5.0
_REFUSAL_S: Final = 2.0
"""So long after its own handshake a client may learn that it was refused (RFC 8446, 4.4.4 and appendix D.5)."""
_LOOK_S: Final = 0.1
_NAME_FAULTS: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""


def probe(endpoint: str, tls: ssl.SSLContext | None) -> Iterator[Tried]:
    """Yield each step to HOST:PORT, the last of which may have failed; without `tls` up to the connection."""
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        yield Tried(Step.RESOLVE, f"{host}: {error.strerror}", failed=True)
        return
    yield Tried(Step.RESOLVE, ", ".join(dict.fromkeys(str(address[0]) for *_, address in found)))
    yield _route(found[0][0], found[0][4])
    try:
        connection = socket.create_connection((host, int(port)), timeout=_CONNECT_S)
    except OSError as error:
        yield Tried(Step.CONNECT, f"{endpoint}: {error.strerror or error}", failed=True)
        return
    with closing(connection):
        yield Tried(Step.CONNECT, f"port {port} is open")
        if tls is not None:
            yield from _tls(connection, host, tls)


def _route(family: int, address: tuple[str | int | bytes, ...]) -> Tried:
    """By which of its addresses the box would send; a datagram socket that connects sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(address)
        except OSError as error:
            return Tried(Step.ROUTE, str(error.strerror), failed=True)
        return Tried(Step.ROUTE, f"from {asking.getsockname()[0]}")


def _tls(connection: socket.socket, host: str, tls: ssl.SSLContext) -> Iterator[Tried]:
    try:
        secured = tls.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        yield Tried(Step.HANDSHAKE, "a server of TLS 1.3 answers")
        if error.verify_code in _NAME_FAULTS:
            yield Tried(Step.CHAIN, "certified by the site")
            yield Tried(Step.NAME, error.verify_message, failed=True)
        else:
            yield Tried(Step.CHAIN, error.verify_message, failed=True)
        return
    except OSError as error:
        yield Tried(Step.HANDSHAKE, _words(error), failed=True)
        return
    with closing(secured):
        cipher = secured.cipher()
        yield Tried(Step.HANDSHAKE, f"{secured.version()}, {cipher[0] if cipher else ''}")
        yield Tried(Step.CHAIN, "certified by the site")
        yield Tried(Step.NAME, f"is {host}")
        yield _client(secured)


def _client(secured: ssl.SSLSocket) -> Tried:
    """Whether the server let our certificate in: most then send a session ticket; else it ends the connection."""
    secured.settimeout(_LOOK_S)
    deadline_s = time.monotonic() + _REFUSAL_S
    while time.monotonic() < deadline_s:
        try:
            if not secured.recv(1):
                return Tried(Step.CLIENT, "the server ends the connection", failed=True)
        except TimeoutError:
            if secured.session is not None and secured.session.has_ticket:
                return Tried(Step.CLIENT, "accepted")
        except OSError as error:
            return Tried(Step.CLIENT, _words(error), failed=True)
    return Tried(Step.CLIENT, f"not refused within {_REFUSAL_S:g} s")


def _words(error: OSError) -> str:
    """What TLS calls it, without OpenSSL's file and line."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)
