"""What a gateway asks its CA every few minutes: who is revoked by now, and when to renew. It blocks.

It shows no certificate, as all of this is public, and so needs no key.
"""

from collections.abc import Sequence

from cryptography import x509

from gateway.config import IdentitySection
from gateway.durable import write_durably
from gateway.errors import EnrolmentError, IdentityError
from gateway.identity import est
from gateway.identity.chain import issued_by, p256_key, trusted_roots
from gateway.identity.files import load_certificate
from gateway.identity.tls import anonymous_context, load_crls


def look(identity: IdentitySection) -> est.RenewalInfo | None:
    """Take newer revocation lists, if there are any; returns the CA's advice, if it gives any.

    Raises `EnrolmentError` or `IdentityError`; then the lists are those of before.
    """
    client = est.EstClient(identity.enrolment, anonymous_context(identity.ca, identity.tls_cert))
    kept = identity.ca.with_suffix(".crl")
    lists = client.revocation_lists()
    if lists is not None and not (kept.exists() and kept.read_bytes() == lists):
        roots = x509.load_pem_x509_certificates(load_certificate(identity.ca))
        offered = client.ca_certificates()
        take_lists(identity, lists, trusted_roots(roots, offered), offered)
    return client.renewal_info(x509.load_pem_x509_certificates(load_certificate(identity.tls_cert))[0])


def take_lists(
    identity: IdentitySection, data: bytes, roots: Sequence[x509.Certificate], offered: Sequence[x509.Certificate]
) -> None:
    """Keep revocation lists (PEM) beside the CA's certificates if `roots` or issuers that they certified signed them.

    Older ones than those that are kept change nothing. Raises `IdentityError`, `EnrolmentError`.
    """
    fresh = load_crls(data)
    authorities = [*roots, *issued_by(roots, offered)]
    for crl in fresh:
        if not any(each.subject == crl.issuer and crl.is_signature_valid(p256_key(each)) for each in authorities):
            raise EnrolmentError("the CA's revocation list is not signed by the CA")
    kept = identity.ca.with_suffix(".crl")
    try:
        before = {each.issuer: _number(each) for each in load_crls(kept.read_bytes())} if kept.exists() else {}
        if all(_number(each) >= before.get(each.issuer, 0) for each in fresh):
            write_durably(kept, data)
    except OSError as error:
        raise EnrolmentError(f"{error.filename}: revocation lists cannot be kept: {error.strerror}") from error


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError) as error:
        raise IdentityError("a revocation list has no number, which tells older from newer") from error
