"""What gateways say of themselves, retained on `v1/gw/GATEWAY/status`: the certificate of their signer."""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cryptography import x509

from gateway.envelope.layout import self_stream
from gateway.errors import IdentityError, SignatureError, SignerError
from gateway.identity.files import load_certificate
from gateway.identity.tls import load_revoked
from gateway.model import Event
from gateway.receiver.plan import NewPart
from gateway.receiver.registry import Registry

_SIGNER = "signer"


class Births:
    """Hands signers to the registry; `on_refused` is told of a gateway whose signer must not count, and why."""

    def __init__(self, registry: Registry, ca: Path, on_refused: Callable[[str, SignerError], None]) -> None:
        self._registry = registry
        self._ca = ca
        self._on_refused = on_refused
        self._waiting: dict[str, bytes] = {}
        self._tried = -1
        """The version of the registry with which all that wait were refused."""

    def take(self, births: Iterable[tuple[str, bytes]], *, now: dt.datetime) -> list[str]:
        """Learn from (gateway, JSON); returns the gateways that have a new signer now. Raises `IdentityError`.

        What was refused is looked at again when the registry has changed: an operator may have allowed it.
        """
        for gateway, payload in births:
            if not payload:  # what was retained is cleared, as `ca revoke` does
                self._waiting.pop(gateway, None)
                continue
            try:
                certificates = json.loads(payload).get("signer_cert")
                if certificates is not None:
                    self._waiting[gateway] = certificates.encode("ascii")
                    self._tried = -1
            except (ValueError, TypeError, AttributeError):
                self._on_refused(gateway, SignerError(f"the status of {gateway} is not JSON as it should be"))
        return self._learn(now)

    def listen(self, parts: Iterable[NewPart], *, now: dt.datetime) -> list[str]:
        """Keep what committed events announce; returns the gateways whose waiting signer counts now."""
        for part in parts:
            if not isinstance(part.content, tuple) or part.series.stream != self_stream(part.series.gateway):
                continue
            for public in filter(None, map(_announced, part.content)):
                try:
                    self._registry.announce(part.series.gateway, public)
                except SignatureError as error:
                    self._on_refused(part.series.gateway, SignerError(f"what it announces is no key: {error}"))
        return self._learn(now)

    def _learn(self, now: dt.datetime) -> list[str]:
        if not self._waiting or self._tried == self._registry.version:
            return []
        roots, revoked = _roots(self._ca), load_revoked(self._ca.with_suffix(".crl"))
        learned = []
        for gateway, certificates in list(self._waiting.items()):
            try:
                if self._registry.learn(gateway, certificates, roots, now=now, revoked=revoked):
                    learned.append(gateway)
                del self._waiting[gateway]
            except SignerError as error:
                self._on_refused(gateway, error)
        self._tried = self._registry.version
        return learned


def _announced(event: Event) -> bytes | None:
    """The raw public key in an event `signer`."""
    match event.details:
        case (bytes(public), *_) if event.code == _SIGNER:
            return public
    return None


def _roots(path: Path) -> Sequence[x509.Certificate]:
    """The roots in a file of CA certificates; read each time, as a rollover replaces it."""
    try:
        certificates = x509.load_pem_x509_certificates(load_certificate(path))
    except ValueError as error:
        raise IdentityError(f"{path}: is not a certificate in PEM") from error
    return [each for each in certificates if each.issuer == each.subject]
