"""The site file: what a gateway is told at enrolment, signed by the site's CA.

COSE_Sign1 (ES256), external_aad "iomt-gateway/1 site", payload CBOR
[1, [signer's certificate, its issuers..., DER], time ms, [broker HOST:PORT, ...], [root, DER, ...],
[algorithm, fleet root's raw public key], key list].
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Signer, VerifyKey
from gateway.errors import EnrolmentError, IdentityError, SealError
from gateway.identity.chain import owner, p256_key, verify_chain
from gateway.identity.files import verify_key

SIGNER = "site"
"""Common name of the certificate that signs it."""


@dataclass(frozen=True, slots=True)
class SiteFile:
    """Whom and what a gateway of this site trusts, and where it finds them."""

    time_ms: int
    endpoints: tuple[str, ...]
    roots: tuple[x509.Certificate, ...]
    fleet_root: VerifyKey
    key_list: bytes


def encode_site(site: SiteFile, signer: Signer, chain: Sequence[x509.Certificate]) -> bytes:
    """The signed file; `chain` is the signer's certificate and its issuers."""
    payload = [
        layout.VERSION,
        [each.public_bytes(Encoding.DER) for each in chain],
        site.time_ms,
        list(site.endpoints),
        [each.public_bytes(Encoding.DER) for each in site.roots],
        [site.fleet_root.alg, site.fleet_root.public],
        site.key_list,
    ]
    return cose.sign1(signer, cbor.encode(payload), layout.SITE_AAD)


def decode_site(data: bytes, roots: Sequence[x509.Certificate], *, at: dt.datetime) -> SiteFile:
    """The site in `data`, if one of `roots` stands behind its signer. Raises `EnrolmentError`."""
    try:
        signed = cose.read_sign1(cbor.decode(data))
        match cbor.decode(signed.payload):
            case [
                1,
                [bytes(leaf), *issuers],
                int(time_ms),
                [*endpoints],
                [*anchors],
                [int(alg), bytes(public), *_],
                bytes(key_list),
                *_,
            ] if endpoints and all(isinstance(each, str) for each in endpoints):
                pass
            case _:
                raise EnrolmentError("not a site file, or of an unknown version")
        certificate = x509.load_der_x509_certificate(leaf)
        chain = [x509.load_der_x509_certificate(each) for each in issuers]
        verify_chain(certificate, roots=roots, issuers=chain, usage="sign", at=at)
        if owner(certificate) != SIGNER:
            raise EnrolmentError("the site file is signed by somebody else than the site")
        signed.verify(verify_key(p256_key(certificate)), layout.SITE_AAD)
        return SiteFile(
            time_ms,
            tuple(endpoints),
            tuple(x509.load_der_x509_certificate(each) for each in anchors),
            VerifyKey(alg, public),
            key_list,
        )
    except (SealError, IdentityError, ValueError, TypeError) as error:
        raise EnrolmentError(f"the site file is not to be believed: {error}") from error
