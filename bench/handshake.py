"""Mutual TLS 1.3 on loopback, as a gateway connects, with a key in a file; and what one signature costs."""

import socket
import ssl
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench._measure import spread
from gateway.envelope.keys import signer_for
from gateway.identity.files import load_private_key
from gateway.identity.tls import client_context, server_context
from gateway.lab.pki import make_dev_pki

_ROUNDS = 15
_HANDSHAKES = 40
_SIGNATURES = 400


def run() -> dict[str, Any]:
    """Measure both sides together in one process; no key lies in a TPM."""
    with tempfile.TemporaryDirectory() as name:
        pki = Path(name)
        make_dev_pki(pki, ["gw-001"])
        own = pki / "gateways" / "gw-001"
        server = server_context(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")
        client = client_context(pki / "ca.crt", own / "tls.crt", own / "tls.key")
        es256, eddsa = (signer_for(load_private_key(own / f"{each}.key")) for each in ("tls", "sign"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=_accept, args=(listener, server), daemon=True).start()
            port: int = listener.getsockname()[1]
            handshakes = [_handshakes(client, port) for _ in range(_ROUNDS)]
        results = {"handshake, key in a file": spread(handshakes, "ms")}
        for label, signer in (("ES256", es256), ("Ed25519", eddsa)):
            seconds = [_signatures(signer.sign) for _ in range(_ROUNDS)]
            results[f"signature, {label} in a file"] = spread(seconds, "us")
    return {"results": results, "ratios": {}}


def _accept(listener: socket.socket, server: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError), server.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(b"x")
                tls.recv(1)


def _handshakes(client: ssl.SSLContext, port: int) -> float:
    """Milliseconds from TCP connect until the server's first byte, which it sends once it believes the client."""
    started_s = time.perf_counter()
    for _ in range(_HANDSHAKES):
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.wrap_socket(plain, server_hostname="localhost") as tls:
                tls.recv(1)
    return (time.perf_counter() - started_s) * 1e3 / _HANDSHAKES


def _signatures(sign: Any) -> float:  # noqa: ANN401 - a bound method
    started_s = time.perf_counter()
    for number in range(_SIGNATURES):
        sign(number.to_bytes(32, "big"))
    return (time.perf_counter() - started_s) * 1e6 / _SIGNATURES
