"""A site whose enrolment server runs in the test's own loop, and a box that wants to become its gateway."""

import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from gateway.config import GatewayConfig
from gateway.identity.enrolment import Enrolment
from gateway.identity.tls import server_context
from gateway.lab.site import free_port
from gateway.observe.http import Request, Response, serve_requests
from gateway.receiver.ca.authority import Authority
from gateway.receiver.ca.est import EstServer
from gateway.receiver.site import Site, create, site_file

GATEWAY = "gw-001"
DAY = dt.timedelta(days=1)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Clinic:
    """A site and its CA, served; `spoil` may change any answer."""

    site: Site
    authority: Authority
    url: str
    root: x509.Certificate
    spoil: Callable[[Request, Response], Response] = field(default=lambda _, response: response)

    def code(self, gateway: str = GATEWAY) -> str:
        return self.authority.new_code(gateway, now=now(), valid=DAY)


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    port = free_port()
    site = create(
        tmp_path / "site",
        "localhost",
        broker_port=free_port(),
        enrolment_port=port,
        passphrase=None,
        with_receiver=True,
        now=now(),
    )
    async with AsyncExitStack() as stack:
        authority = stack.enter_context(closing(site.authority()))
        server = EstServer(
            authority,
            clock=now,
            site_file=lambda: site_file(site, authority, now=now()),
            revocation_lists=(site.ca / "ca.crl").read_bytes,
        )
        clinic = Clinic(site, authority, f"https://localhost:{port}", authority.generations(now())[0].root)
        tls = server_context(site.ca / "ca.crt", site.ca / "enrolment.crt", site.ca / "enrolment.key")
        tls.verify_mode = ssl.CERT_OPTIONAL
        await stack.enter_async_context(
            serve_requests(
                lambda request: clinic.spoil(request, server.answer(request)), listen=f"localhost:{port}", tls=tls
            )
        )
        yield clinic


@dataclass
class Box:
    """A box with an empty state directory."""

    config: GatewayConfig
    told: list[str] = field(default_factory=list)

    def enrolment(self, url: str) -> Enrolment:
        return Enrolment(
            identity=self.config.identity,
            gateway=GATEWAY,
            url=url,
            allow_classical=False,
            now=now(),
            tell=self.told.append,
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    document = {"gateway": {"id": GATEWAY, "state_dir": str(state)}, "uplink": {"endpoints": ["localhost:1"]}}
    return Box(GatewayConfig.model_validate(document))
