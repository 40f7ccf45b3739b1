"""What a running receiver reads again when it has changed on the disk: its key list, certificate and trust."""

import asyncio
import logging
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cryptography import x509

from gateway.errors import IdentityError
from gateway.identity.files import load_certificate, stamp
from gateway.identity.tls import ClientContext, client_context, crl_expiry_s
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.config import ReceiverConfig

if TYPE_CHECKING:
    from gateway.receiver.worker import Receiver

_log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""How often files are looked at."""


class Files:
    """The files that `config` names; `scrapes` is what metrics are served with. Raises `IdentityError`."""

    def __init__(self, config: ReceiverConfig, metrics: ReceiverMetrics, scrapes: ssl.SSLContext | None) -> None:
        self._config = config
        self._metrics = metrics
        self._scrapes = scrapes
        tls = config.tls
        self._lists = tls.ca.with_suffix(".crl")
        self._watched = [tls.ca, tls.cert, self._lists, *(config.metrics.tls or ())]
        metrics.crl_expiry.set_function(partial(crl_expiry_s, self._lists))
        self.key_list = _read(config.receiver.key_list)
        self._seen = stamp(self._watched)
        self.tls = self._context()

    async def watch(self, receiver: "Receiver") -> NoReturn:
        """Hand on what has changed, as soon as it is whole; what is not right yet is looked at again."""
        while True:
            await asyncio.sleep(_LOOK_S)
            receiver.publish_key_list(_read(self._config.receiver.key_list))
            seen = stamp(self._watched)
            if seen == self._seen:
                continue
            try:
                receiver.use(self._context())
                if self._scrapes is not None and self._config.metrics.tls is not None:
                    ca, cert, key = self._config.metrics.tls
                    self._scrapes.load_verify_locations(ca)
                    self._scrapes.load_cert_chain(cert, key)
            except (IdentityError, OSError) as error:
                _log.error("certificates have changed and are not taken into use: %s", error)
            self._seen = seen

    def _context(self) -> ClientContext:
        tls = self._config.tls
        context = client_context(tls.ca, tls.cert, tls.key)
        certificate = x509.load_pem_x509_certificates(load_certificate(tls.cert))[0]
        self._metrics.certificate_expiry.set(certificate.not_valid_after_utc.timestamp())
        return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
