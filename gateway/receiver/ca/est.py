"""Enrolment over Secure Transport (RFC 7030): what each request is answered. TLS has checked the client's chain.

Paths below /.well-known/est/, with the label `signer` for the certificate that signs bundles and none, or `tls`, for
the one that speaks to the broker: cacerts, csrattrs, simpleenroll (HTTP Basic, gateway id and one-time code) and
simplereenroll (TLS client certificate). Besides: renewal-info/CERTIFICATE (draft-ietf-lamps-est-renewal-info), /v1/site
and /v1/crl.
"""

import base64
import binascii
import datetime as dt
import json
import logging
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from gateway.errors import EnrolmentError, IdentityError, StoreError
from gateway.observe.http import Request, Response
from gateway.receiver.ca.authority import SIGNING, TLS, Authority

_log = logging.getLogger(__name__)

_ROOT = "/.well-known/est/"
_RENEWAL = f"{_ROOT}renewal-info/"
_ASK_AGAIN_S = 300
_LABELS = {"": TLS, "tls": TLS, "signer": SIGNING}
_CERTIFICATES = "application/pkcs7-mime; smime-type=certs-only"
_TRANSFER = (("Content-Transfer-Encoding", "base64"),)

_ATTRIBUTES = {
    # CsrAttrs (RFC 7030, 4.5.2): a P-256 key and ecdsa-with-SHA256; Ed25519.
    TLS: bytes.fromhex("3021301506072a8648ce3d0201310a06082a8648ce3d03010706082a8648ce3d040302"),
    SIGNING: bytes.fromhex("300506032b6570"),
}


class EstServer:
    """Answers for one authority; `site_file` and `revocation_lists` render what is published beside it."""

    def __init__(
        self,
        authority: Authority,
        *,
        clock: Callable[[], dt.datetime],
        site_file: Callable[[], bytes],
        revocation_lists: Callable[[], bytes],
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._published = {
            "/v1/site": (site_file, "application/cose"),
            "/v1/crl": (revocation_lists, "application/x-pem-file"),
        }

    def answer(self, request: Request) -> Response:
        """The response to any request; 503 if the CA's disk fails or one of its keys is away."""
        try:
            return self._answer(request)
        except (StoreError, IdentityError) as error:
            _log.error("a request could not be answered: %s", error)
            return Response(503, headers=(("Retry-After", str(_ASK_AGAIN_S)),))

    def _answer(self, request: Request) -> Response:
        published = self._published.get(request.path)
        if published is not None:
            render, content_type = published
            return Response(200, render(), content_type) if request.method == "GET" else Response(405)
        if request.path.startswith(_RENEWAL):
            return self._renewal_info(request)
        *label, operation = request.path.removeprefix(_ROOT).split("/")
        profile = _LABELS.get("/".join(label))
        if not request.path.startswith(_ROOT) or profile is None:
            return Response(404)
        match request.method, operation:
            case "GET", "cacerts":
                return _certificates(self._ca_certificates())
            case "GET", "csrattrs":
                return Response(200, base64.b64encode(_ATTRIBUTES[profile]), "application/csrattrs", _TRANSFER)
            case "POST", ("simpleenroll" | "simplereenroll"):
                return self._enrol(request, operation, profile)
            case _:
                return Response(404)

    def _renewal_info(self, request: Request) -> Response:
        try:
            issuer, serial = (_base64url(part) for part in request.path.removeprefix(_RENEWAL).split("."))
        except ValueError:
            return Response(400, b"a certificate is named by its issuer's key and its serial number, in base64url\n")
        window = self._authority.renewal_window(issuer, int.from_bytes(serial, "big"), now=self._clock())
        if request.method != "GET" or window is None:
            return Response(404)
        start, end = (each.isoformat(timespec="seconds") for each in window)
        body = json.dumps({"suggestedWindow": {"start": start, "end": end}})
        return Response(200, body.encode(), "application/json", (("Retry-After", str(_ASK_AGAIN_S)),))

    def _ca_certificates(self) -> list[x509.Certificate]:
        family = self._authority.generations(self._clock())
        links = [each.link for each in family if each.link is not None]
        return [*(each.root for each in family), *(each.issuer for each in family), *links]

    def _enrol(self, request: Request, operation: str, profile: str) -> Response:
        try:
            csr = base64.b64decode(request.body, validate=False)
            if operation == "simplereenroll":
                if request.peer is None:
                    return Response(403, b"show the certificate that is to be renewed\n")
                certificate = self._authority.reenrol(csr, profile, caller=request.peer, now=self._clock())
            else:
                credentials = _credentials(request)
                if credentials is None:
                    challenge = (("WWW-Authenticate", 'Basic realm="one-time code"'),)
                    return Response(401, b"show the one-time code\n", headers=challenge)
                gateway, code = credentials
                certificate = self._authority.enrol(csr, profile, gateway=gateway, code=code, now=self._clock())
        except binascii.Error:
            return Response(400, b"the body is not base64\n")
        except EnrolmentError as error:
            return Response(403, f"{error}\n".encode())
        return _certificates([certificate])


def _certificates(certificates: Sequence[x509.Certificate]) -> Response:
    """A certs-only CMS message, in lines of base64 (RFC 7030, 4.1.3)."""
    body = base64.encodebytes(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
    return Response(200, body, _CERTIFICATES, _TRANSFER)


def _base64url(text: str) -> bytes:
    return base64.b64decode(f"{text}{'=' * (-len(text) % 4)}", altchars=b"-_", validate=True)


def _credentials(request: Request) -> tuple[str, str] | None:
    """User and password of HTTP Basic authentication (RFC 7617)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        gateway, _, code = base64.b64decode(value).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return gateway, code
