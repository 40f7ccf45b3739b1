"""How a box becomes a gateway of a site: its keys are made here, its certificates by the site's CA. It blocks.

Nothing is taken into use before all of it is checked. An enrolment that was cut is simply done again: the keys are
kept, and the CA gives the same keys the same certificates as long as the one-time code lives.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509

from gateway.config import IdentitySection
from gateway.durable import give_to_owner, write_durably
from gateway.envelope.keylist import decode_key_list
from gateway.errors import EnrolmentError, ReceiptError
from gateway.identity import est
from gateway.identity.chain import fingerprint, owner, pem, trusted_roots, verify_chain
from gateway.identity.files import PrivateKey
from gateway.identity.rung import make_signing_key, make_tls_key, open_key
from gateway.identity.site import SiteFile, decode_site

_USAGES = {"tls": "client", "signer": "sign"}
"""EST label: what its certificate must be for."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One box, one site; `tell` is handed a line for every step that is done."""

    identity: IdentitySection
    gateway: str
    url: str
    allow_classical: bool
    now: dt.datetime
    tell: Callable[[str], None]

    def run(
        self, credentials: str, *, trust: Callable[[Sequence[x509.Certificate]], list[x509.Certificate]]
    ) -> SiteFile:
        """Enrol with a one-time code (GATEWAY:CODE); `trust` picks from the roots that the server offers.

        Raises `EnrolmentError`, `IdentityError`; OSError if the identity's directory cannot be written. Then nothing
        has changed but that the keys exist.
        """
        keys = self._keys()
        offered = est.unverified(self.url).ca_certificates()
        chosen = trust([each for each in offered if each.issuer == each.subject])
        client = est.anonymous(self.url, chosen)
        authorities = client.ca_certificates()
        roots = trusted_roots(chosen, authorities)
        issuers = [each for each in authorities if each.issuer != each.subject]
        self.tell(f"{self.url}: is the site of root {fingerprint(chosen[0])}")
        certificates = {}
        for label, key in keys.items():
            certificate = client.enrol(label, est.make_request(self.gateway, key), credentials=credentials)
            check_certificate(certificate, self.gateway, key, label, roots=roots, issuers=issuers, at=self.now)
            certificates[label] = certificate
            self.tell(f"certificate for {label}: until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        site = self._site(client, roots)
        self._take(certificates, roots, issuers, site)
        return site

    def _keys(self) -> dict[str, PrivateKey]:
        """This box's two keys by EST label, made if need be; they never leave it."""
        identity = self.identity
        if make_tls_key(identity):
            self.tell(f"{identity.tls_key}: made, and never leaves this box")
        if make_signing_key(identity, identity.signing_key):
            self.tell(f"{identity.signing_key}: made, and never leaves this box")
        return {"tls": open_key(identity, identity.tls_key), "signer": open_key(identity, identity.signing_key)}

    def _site(self, client: est.EstClient, roots: Sequence[x509.Certificate]) -> SiteFile:
        site = decode_site(client.site_file(), roots, at=self.now)
        try:
            key_list = decode_key_list(site.key_list, site.fleet_root, allow_classical=self.allow_classical)
        except ReceiptError as error:
            raise EnrolmentError(f"the site's key list is not to be believed: {error}") from error
        if not key_list.not_before_ms <= self.now.timestamp() * 1000 < key_list.not_after_ms:
            raise EnrolmentError(f"the site's key list {key_list.serial} is not valid now")
        self.tell(f"key list {key_list.serial}: readings are sealed to {len(key_list.recipients)} key(s) of the site")
        return site

    def _take(
        self,
        certificates: dict[str, x509.Certificate],
        roots: Sequence[x509.Certificate],
        issuers: Sequence[x509.Certificate],
        site: SiteFile,
    ) -> None:
        identity = self.identity
        contents = {
            identity.ca: pem(roots),
            identity.tls_cert: pem([certificates["tls"], *issuers]),
            identity.signing_cert: pem([certificates["signer"], *issuers]),
            identity.fleet_root: site.fleet_root.pem,
            identity.key_list: site.key_list,
        }
        for path, content in contents.items():
            write_durably(path, content)
            give_to_owner(path)


def check_certificate(
    certificate: x509.Certificate,
    gateway: str,
    key: PrivateKey,
    label: str,
    *,
    roots: Sequence[x509.Certificate],
    issuers: Sequence[x509.Certificate],
    at: dt.datetime,
) -> None:
    """Raise `IdentityError` unless a certificate that the CA sent is this gateway's, for this key and this use."""
    if owner(certificate) != gateway:
        raise EnrolmentError(f"the CA certified {owner(certificate)!r} instead of {gateway!r}")
    verify_chain(certificate, roots=roots, issuers=issuers, usage=_USAGES[label], at=at)
    if certificate.public_key() != key.public_key():
        raise EnrolmentError("the CA certified another key than the one that it was asked for")
