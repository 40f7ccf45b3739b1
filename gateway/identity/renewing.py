"""Keeps a gateway's TLS certificate valid: asks the site's CA in time, checks, writes, and hands on a new context.

The key stays: it may live where nothing can be written. With `/cacerts` of the same answer come new roots, if one that
is trusted already vouches for them; so a rollover of the CA needs nobody.
"""

import asyncio
import datetime as dt
import logging
import random
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from cryptography import x509

from gateway.config import IdentitySection
from gateway.durable import write_durably
from gateway.errors import EnrolmentError, IdentityError, TryLaterError
from gateway.identity import est
from gateway.identity.chain import pem, trusted_roots
from gateway.identity.enrolment import check_certificate
from gateway.identity.files import load_certificate, stamp
from gateway.identity.lookup import look, take_lists
from gateway.identity.renewal import Renewal, Validity
from gateway.identity.rung import open_key
from gateway.identity.tls import ClientContext, crl_expiry_s, gateway_context, load_revoked
from gateway.observe.metrics import GatewayMetrics

_log = logging.getLogger(__name__)

_LOOK_S = 30.0
"""How often clocks and files are looked at."""
_ASK_EVERY_S, _ASK_MAX_S = 300.0, 3600.0
"""How often the CA is asked who is revoked, if it does not say, and whatever it says."""


class Renewer:
    """One gateway's renewals; `on_context` is handed what TLS shall use in the place of `tls` from then on."""

    def __init__(
        self,
        identity: IdentitySection,
        gateway: str,
        tls: ClientContext,
        *,
        on_context: Callable[[ssl.SSLContext], None],
        metrics: GatewayMetrics,
        look_s: float = _LOOK_S,
    ) -> None:
        self._identity = identity
        self._gateway = gateway
        self._tls = tls
        self._on_context = on_context
        self._metrics = metrics
        self._look_s = look_s
        self._ask_at_s = _boot_s() + random.uniform(0, _ASK_EVERY_S)
        self._said = ""
        metrics.crl_expiry.set_function(partial(crl_expiry_s, identity.ca.with_suffix(".crl")))
        self._mine = stamp([identity.tls_cert])
        validity = self._tell_expiry()
        self._renewal = Renewal(validity, mono_s=_boot_s(), uniform=random.uniform)

    async def run(self) -> NoReturn:
        """Serve until cancelled. Raises `IdentityError` only if files that were right are wrong now."""
        while True:
            await asyncio.sleep(self._look_s)
            if stamp([self._identity.tls_cert]) != self._mine:
                self._take("another certificate lies on the disk, and is used")
            elif self._tls.floor is not None and dt.datetime.now(dt.UTC) >= self._tls.floor:
                self._hand_on()  # the clock has been set: from now on it counts
            elif self._identity.enrolment and self._renewal.due(wall_s=time.time(), mono_s=_boot_s()):
                await self._renew()
            elif self._identity.enrolment and _boot_s() >= self._ask_at_s:
                await self._ask()

    async def _ask(self) -> None:
        """Learn who is revoked by now, and when the CA wants to be asked for the next certificate."""
        again_s = random.uniform(0.5, 1.0) * _ASK_EVERY_S
        try:
            info = await asyncio.to_thread(look, self._identity)
        except IdentityError as error:
            self._say(f"the CA does not tell who is revoked: {error}")
        else:
            if info is not None:
                self._renewal.advise(info.start_s, info.end_s)
                again_s = min(max(info.again_s, again_s), _ASK_MAX_S)
        self._ask_at_s = _boot_s() + again_s
        if load_revoked(self._identity.ca.with_suffix(".crl")) != self._tls.revoked:
            self._say("the CA has revoked certificates; connecting anew, to none of their holders")
            self._hand_on()

    async def _renew(self) -> None:
        try:
            await asyncio.to_thread(renew, self._identity, self._gateway)
        except IdentityError as error:
            self._metrics.renewal_failures.inc()
            self._renewal.failed(
                mono_s=_boot_s(), retry_after_s=error.after_s if isinstance(error, TryLaterError) else 0.0
            )
            self._say(f"certificate is not renewed: {error}")
            return
        self._take("certificate renewed")

    def _take(self, text: str) -> None:
        self._mine = stamp([self._identity.tls_cert])
        self._renewal.renewed(self._tell_expiry(), mono_s=_boot_s())
        self._hand_on()
        self._say(text)

    def _hand_on(self) -> None:
        self._tls = gateway_context(self._identity)
        self._on_context(self._tls)

    def _tell_expiry(self) -> Validity:
        certificate = x509.load_pem_x509_certificates(load_certificate(self._identity.tls_cert))[0]
        validity = Validity(certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())
        self._metrics.certificate_expiry.set(validity.not_after_s)
        return validity

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            _log.warning("%s", text)


def renew(identity: IdentitySection, gateway: str) -> None:
    """Ask for the next TLS certificate with the present one, and write it when it is checked. It blocks.

    Raises `EnrolmentError` or `IdentityError`; then nothing has changed.
    """
    client = est.EstClient(identity.enrolment, gateway_context(identity))
    authorities = client.ca_certificates()
    known = x509.load_pem_x509_certificates(load_certificate(identity.ca))
    roots = trusted_roots(known, authorities)
    issuers = [each for each in authorities if each.issuer != each.subject]
    key = open_key(identity, identity.tls_key)
    certificate = client.renew("tls", est.make_request(gateway, key))
    at = max(dt.datetime.now(dt.UTC), certificate.not_valid_before_utc)  # a clock that is behind learns from the CA
    check_certificate(certificate, gateway, key, "tls", roots=roots, issuers=issuers, at=at)
    lists = client.revocation_lists()
    if lists is not None:
        take_lists(identity, lists, roots, issuers)
    try:
        write_durably(identity.ca, pem(roots))
        write_durably(identity.tls_cert, pem([certificate, *issuers]))
    except OSError as error:
        raise EnrolmentError(f"{error.filename}: the renewed certificate cannot be kept: {error.strerror}") from error


def _boot_s() -> float:
    """Seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
