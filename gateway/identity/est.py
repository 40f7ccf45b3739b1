"""The gateway's side of EST (RFC 7030): ask the site's CA for certificates and for what it publishes. It blocks.

Everything raises `EnrolmentError` that says who is to blame and, where there is one, the way out.
"""

import base64
import datetime as dt
import http.client
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from gateway.errors import EnrolmentError, TryLaterError
from gateway.identity.files import PrivateKey

_EST = "/.well-known/est/"
_TIMEOUT_S = 20.0
_MAX_ANSWER_BYTES = 1 << 20
_OK = 200
_LATER = {202, 429, 503}
_LONGEST_S = 86_400.0
"""However long a server wants not to be asked."""


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """When a CA wants a certificate renewed, in seconds since 1970, and after how long to ask about that again."""

    start_s: float
    end_s: float
    again_s: float
    """0 if the server did not say."""


@dataclass(frozen=True, slots=True)
class EstClient:
    """One CA's server; `tls` decides whom it believes and which certificate it shows."""

    url: str
    tls: ssl.SSLContext

    def ca_certificates(self) -> list[x509.Certificate]:
        """Roots, issuers and links between roots, as the server tells them."""
        return _certificates(self._ask("GET", f"{_EST}cacerts"))

    def enrol(self, label: str, request: bytes, *, credentials: str) -> x509.Certificate:
        """A first certificate for a request (DER); `credentials` are GATEWAY:CODE."""
        basic = base64.b64encode(credentials.encode()).decode("ascii")
        return self._certify(f"{label}/simpleenroll", request, {"Authorization": f"Basic {basic}"})

    def renew(self, label: str, request: bytes) -> x509.Certificate:
        """The next certificate for a request (DER); TLS shows who asks."""
        return self._certify(f"{label}/simplereenroll", request, {})

    def renewal_info(self, certificate: x509.Certificate) -> RenewalInfo | None:
        """When to renew a certificate (draft-ietf-lamps-est-renewal-info); None if the server has no opinion."""
        status, headers, answer = self._exchange("GET", f"{_EST}renewal-info/{certificate_id(certificate)}")
        if status != _OK:
            return None
        try:
            window = json.loads(answer)["suggestedWindow"]
            start, end = (dt.datetime.fromisoformat(window[name]).timestamp() for name in ("start", "end"))
        except (ValueError, TypeError, KeyError) as error:
            raise EnrolmentError(f"{self.url}: its renewal information is none: {error!r}") from error
        return RenewalInfo(start, end, _retry_after_s(headers)) if start < end else None

    def site_file(self) -> bytes:
        """What a gateway of the site is told; not verified yet."""
        return self._ask("GET", "/v1/site")

    def revocation_lists(self) -> bytes | None:
        """Whose certificates are revoked (PEM); not verified yet. None if the server does not publish it here."""
        status, _, answer = self._exchange("GET", "/v1/crl")
        return answer if status == _OK else None

    def _certify(self, path: str, request: bytes, headers: Mapping[str, str]) -> x509.Certificate:
        kind = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        certificates = _certificates(self._ask("POST", _EST + path, base64.b64encode(request), {**kind, **headers}))
        if len(certificates) != 1:
            raise EnrolmentError(f"{self.url}: answered with {len(certificates)} certificates instead of one")
        return certificates[0]

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        status, answered, answer = self._exchange(method, path, body, headers)
        if status == _OK:
            return answer
        reason = answer.decode("utf-8", "replace").strip().partition("\n")[0][:200]
        if status in _LATER and (after_s := _retry_after_s(answered)):
            raise TryLaterError(f"{self.url}: wants to be asked again in {after_s:.0f} s ({status}): {reason}", after_s)
        raise EnrolmentError(f"{self.url}: {method} {path} is refused ({status}): {reason}")

    def _exchange(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Message, bytes]:
        target = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            target.hostname or "", target.port or 443, timeout=_TIMEOUT_S, context=self.tls
        )
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise EnrolmentError(f"{self.url}: {error.verify_message}; is this box's clock right?") from error
        except (OSError, http.client.HTTPException) as error:
            raise EnrolmentError(f"{self.url}: cannot be reached: {error}") from error
        finally:
            connection.close()
        return response.status, response.headers, answer


def unverified(url: str) -> EstClient:
    """A client that believes any server: only to fetch what is then compared with a fingerprint."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return EstClient(url, tls)


def anonymous(url: str, roots: Sequence[x509.Certificate]) -> EstClient:
    """A client that believes a server certified by one of `roots`, and shows no certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_verify_locations(cadata="".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in roots))
    return EstClient(url, tls)


def make_request(gateway: str, key: PrivateKey) -> bytes:
    """A certificate request (PKCS 10, DER) for the one common name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
    return signed.public_bytes(Encoding.DER)


def certificate_id(certificate: x509.Certificate) -> str:
    """What names a certificate in a request for renewal information: key of its issuer, and serial number."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise EnrolmentError("the certificate does not say which key issued it") from error
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")  # as DER has it: its first bit is no sign
    parts = (extension.value.key_identifier or b"", serial)
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode("ascii") for each in parts)


def _retry_after_s(headers: Message) -> float:
    """Seconds, or a date beside the server's own (RFC 9110, 10.2.3); 0 if there is none that can be read."""
    text = headers.get("Retry-After", "")
    try:
        if text.isascii() and text.isdecimal():
            return min(float(text), _LONGEST_S)
        later, now = (parsedate_to_datetime(each) for each in (text, headers.get("Date", "")))
        return min(max(0.0, (later - now).total_seconds()), _LONGEST_S)
    except (ValueError, TypeError):
        return 0.0


def _certificates(answer: bytes) -> list[x509.Certificate]:
    """The certificates in a certs-only CMS message, which travels in base64."""
    try:
        return pkcs7.load_der_pkcs7_certificates(base64.b64decode(re.sub(rb"\s", b"", answer), validate=True))
    except ValueError as error:
        raise EnrolmentError("the CA's answer is not a certs-only CMS message") from error
