"""Mutual TLS 1.3 on loopback, as a gateway connects, with a key in a file or in a TPM; and what one signature costs.

The TPM is one in software, behind a resource manager: that shows what the way to a TPM costs. A chip is slower still.
"""

import datetime as dt
import socket
import ssl
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509 import load_pem_x509_certificate

from bench._measure import spread
from gateway.config import GatewayConfig, IdentitySection
from gateway.envelope.keys import signer_for
from gateway.identity.chain import pem
from gateway.identity.files import load_private_key
from gateway.identity.rung import make_signing_key, make_tls_key, open_key
from gateway.identity.tls import gateway_context, server_context
from gateway.lab.pki import make_dev_pki
from gateway.lab.tpm import missing, software_tpm
from gateway.receiver.ca.issue import Issuer, certify, profiles

_ROUNDS = 15
_HANDSHAKES = 40
_SIGNATURES = 400


def run() -> dict[str, Any]:
    """Measure both sides together in one process, file and TPM in turns; the TPM only where one can be started."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        pki = Path(name)
        make_dev_pki(pki, ["gw-001"])
        server = server_context(pki / "ca.crt", pki / "broker.crt", pki / "broker.key")
        boxes = {"file": _identity(pki, "file", "none")}
        if missing() is None:
            boxes["tpm"] = _identity(pki, "tpm", stack.enter_context(software_tpm(pki / "swtpm")))
        clients = {keys: gateway_context(identity) for keys, identity in boxes.items()}
        signers = {"Ed25519 in file": signer_for(open_key(boxes["file"], boxes["file"].signing_key))}
        for keys, identity in boxes.items():
            signers[f"ES256 in {keys}"] = signer_for(open_key(identity, identity.tls_key))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=_accept, args=(listener, server), daemon=True).start()
        port: int = listener.getsockname()[1]
        rounds = [{keys: _handshakes(client, port) for keys, client in clients.items()} for _ in range(_ROUNDS)]
        signing = [{key: _signatures(signer.sign) for key, signer in signers.items()} for _ in range(_ROUNDS)]
    results = {f"handshake, key in {keys}": spread([each[keys] for each in rounds], "ms") for keys in boxes}
    results |= {f"signature, {key}": spread([each[key] for each in signing], "us") for key in signers}
    ratios: dict[str, float] = {}
    if "tpm" in boxes:
        ratios["handshake, tpm to file"] = statistics.median(each["tpm"] / each["file"] for each in rounds)
    return {"results": results, "ratios": ratios}


def _identity(pki: Path, keys: str, tcti: str) -> IdentitySection:
    """A gateway of the lab's CA, whose TLS certificate is for a key where `keys` says."""
    document = {"gateway": {"id": "gw-001", "state_dir": str(pki / keys)}, "uplink": {"endpoints": ["localhost:1"]}}
    identity = GatewayConfig.model_validate({**document, "identity": {"keys": keys, "tpm": tcti}}).identity
    make_tls_key(identity)
    make_signing_key(identity, identity.signing_key)
    identity.ca.write_bytes((pki / "ca.crt").read_bytes())
    ca_key = load_private_key(pki / "ca.key")
    assert isinstance(ca_key, EllipticCurvePrivateKey)
    ca = Issuer(load_pem_x509_certificate(identity.ca.read_bytes()), ca_key)
    public = open_key(identity, identity.tls_key).public_key()
    leaf = certify(profiles()["gateway"], "gw-001", public, issuer=ca, now=dt.datetime.now(dt.UTC))
    identity.tls_cert.write_bytes(pem([leaf]))
    return identity


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
