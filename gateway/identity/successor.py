"""A gateway's next signing key: made and certified while the present one signs, announced by its last bundle.

`NAME.next` beside key and certificate hold it until then. The pair is exchanged when the announcement is durable; a cut
in the middle of that is finished at the next start.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from gateway.config import IdentitySection
from gateway.durable import give_to_owner, write_durably
from gateway.envelope.keys import VerifyKey
from gateway.errors import IdentityError
from gateway.identity import est
from gateway.identity.chain import pem
from gateway.identity.enrolment import check_certificate
from gateway.identity.files import load_certificate, verify_key
from gateway.identity.rung import make_signing_key, open_key
from gateway.identity.tls import gateway_context


@dataclass(frozen=True, slots=True)
class Successor:
    """The next signer of the gateway with this identity, if there is one."""

    identity: IdentitySection

    @property
    def _key(self) -> Path:
        return _next(self.identity.signing_key)

    @property
    def _cert(self) -> Path:
        return _next(self.identity.signing_cert)

    @property
    def public(self) -> VerifyKey | None:
        """What the present signer has to announce. Raises `IdentityError`."""
        return verify_key(open_key(self.identity, self._key).public_key()) if self._cert.exists() else None

    def prepare(self, gateway: str) -> VerifyKey:
        """Make a key and have it certified; it blocks. Raises `EnrolmentError`, `IdentityError`, OSError."""
        identity = self.identity
        if not identity.enrolment:
            raise IdentityError("identity.enrolment names no server that could certify another signer")
        if identity.keys == "credential":
            raise IdentityError("identity.keys: another signer needs keys in files or a TPM; enrol anew instead")
        make_signing_key(identity, self._key)
        key = open_key(identity, self._key)
        client = est.EstClient(identity.enrolment, gateway_context(identity))
        roots = x509.load_pem_x509_certificates(load_certificate(identity.ca))
        issuers = [each for each in client.ca_certificates() if each.issuer != each.subject]
        certificate = client.renew("signer", est.make_request(gateway, key))
        at = certificate.not_valid_before_utc  # how long it lasts is for the receiver to judge
        check_certificate(certificate, gateway, key, "signer", roots=roots, issuers=issuers, at=at)
        write_durably(self._cert, pem([certificate, *issuers]))
        give_to_owner(self._cert)
        return verify_key(key.public_key())

    def take_over(self) -> None:
        """Exchange the pair, once the announcement is durable; also what was begun and cut. Raises `IdentityError`."""
        try:
            if self._cert.exists():
                if self._key.exists():
                    self._key.replace(self.identity.signing_key)
                self._cert.replace(self.identity.signing_cert)
        except OSError as error:
            raise IdentityError(f"{error.filename}: the next signer cannot take over: {error.strerror}") from error

    def finish(self) -> None:
        """Finish an exchange that was cut: the key has been replaced, its certificate not yet."""
        if self._cert.exists() and not self._key.exists():
            self.take_over()


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")
