"""Forgets a stream: what is here is destroyed, and a signed certificate says who else holds what, until when."""

import getpass
import json
from dataclasses import dataclass
from typing import Any

from gateway.envelope.keys import Signer, VerifyKey
from gateway.errors import SignatureError
from gateway.receiver import queries
from gateway.receiver.desk import find
from gateway.receiver.store import Store

_CONTEXT = b"iomt-gateway/1 erasure"
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How long others keep sealed copies; 0 days is not stated."""

    broker_days: int
    backup_days: int


def forget(store: Store, stream: str, signer: Signer, elsewhere: Elsewhere, *, now_ms: int) -> str:
    """Destroy all of `stream` (hex) and close it; the certificate, as signed JSON.

    What arrives of it later is discarded, counted and receipted. May be repeated. Raises `ConfigError` for a stream
    that is not here, `StoreError`.
    """
    found = find(store, stream)

    def certify(gone: dict[str, int]) -> str:
        return _signed(
            {
                "kind": "iomt-gateway erasure certificate, version 1",
                "gateway": found.gateway,
                "stream": stream.lower(),
                "time_ms": now_ms,
                "by": getpass.getuser(),
                "destroyed": gone,
                "held_elsewhere": _held(elsewhere, now_ms),
            },
            signer,
        )

    return store.erase(found, certify, now_ms=now_ms)


def certificates(store: Store, stream: str) -> list[str]:
    """Those of a stream (hex), oldest first. Raises `ConfigError`, `StoreError`."""
    return [document for (document,) in store.rows(queries.CERTIFICATES, find(store, stream).stream)]


def verify(document: str, key: VerifyKey) -> dict[str, Any]:
    """What a certificate says. Raises `SignatureError` if `key` did not sign it."""
    try:
        signed = json.loads(document)
        certificate: dict[str, Any] = signed["certificate"]
        signature = bytes.fromhex(signed["signature"])
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError("is no certificate") from error
    key.verify(signature, _message(certificate))
    return certificate


def _held(elsewhere: Elsewhere, now_ms: int) -> list[dict[str, Any]]:
    """Sealed copies that this command cannot reach. Without the recipients' keys nobody reads them."""
    broker = now_ms + elsewhere.broker_days * _DAY_MS
    backup = now_ms + elsewhere.backup_days * _DAY_MS if elsewhere.backup_days else None
    return [
        {"where": "broker", "what": "sealed bundles that were published", "until_ms": broker},
        {
            "where": "gateway",
            "what": "sealed bundles in its outbox, until their segments are evicted",
            "until_ms": None,
        },
        {"where": "backups of the store", "what": "readings, secrets and epoch parts", "until_ms": backup},
        {"where": "archive of this store", "what": "signed bundles whose epoch parts are destroyed", "until_ms": None},
    ]


def _signed(certificate: dict[str, Any], signer: Signer) -> str:
    signature = signer.sign(_message(certificate)).hex()
    document = {"certificate": certificate, "alg": signer.alg, "kid": signer.kid.hex(), "signature": signature}
    return json.dumps(document, sort_keys=True, ensure_ascii=False)


def _message(certificate: dict[str, Any]) -> bytes:
    """What is signed: the certificate with its keys in order and no spaces."""
    return _CONTEXT + json.dumps(certificate, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
