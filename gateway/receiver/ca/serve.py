"""The CA's server: enrolment over TLS 1.3, and what has to be renewed every day."""

import asyncio
import datetime as dt
import logging
import ssl
from contextlib import closing

from gateway.identity.tls import server_context
from gateway.observe import systemd
from gateway.observe.http import serve_requests
from gateway.receiver.ca.authority import Authority
from gateway.receiver.ca.est import EstServer
from gateway.receiver.site import Site, maintain, site_file

_log = logging.getLogger(__name__)

_DAY_S = 86_400
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: the authority judges time, and may grant grace."""


async def serve(site: Site, authority: Authority) -> None:
    """Serve for one authority until cancelled. Raises `GatewayError` if it cannot start, or its disk fails."""
    with closing(authority):
        maintain(site, authority, now=_now())
        tls = server_context(site.ca / "ca.crt", site.ca / "enrolment.crt", site.ca / "enrolment.key")
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.verify_flags |= _NO_CHECK_TIME
        server = EstServer(
            authority,
            clock=_now,
            site_file=lambda: site_file(site, authority, now=_now()),
            revocation_lists=(site.ca / "ca.crl").read_bytes,
        )
        listen = site.config().ca.listen
        async with serve_requests(server.answer, listen=listen, tls=tls):
            _log.info("enrolment is served on %s", listen)
            systemd.notify("READY=1")
            while True:
                await asyncio.sleep(_DAY_S)
                maintain(site, authority, now=_now())
                tls.load_verify_locations(site.ca / "ca.crt")
                tls.load_cert_chain(site.ca / "enrolment.crt", site.ca / "enrolment.key")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
