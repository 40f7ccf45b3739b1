"""A gateway keeps its certificate valid by itself: asks, checks, writes, hands on."""

import asyncio
import datetime as dt
import random
from collections.abc import Sequence
from contextlib import suppress

import pytest
from cryptography import x509

from gateway.config import GatewayConfig
from gateway.errors import EnrolmentError, IdentityError
from gateway.identity.est import EstClient
from gateway.identity.files import load_private_key
from gateway.identity.renewal import Renewal, Validity
from gateway.identity.renewing import Renewer, renew
from gateway.identity.tls import client_context, load_revoked
from gateway.observe.http import Request, Response
from gateway.observe.metrics import GatewayMetrics
from gateway.receiver.site import new_generation, publish
from tests.identity.conftest import DAY, GATEWAY, Box, Clinic, now


def trusting(clinic: Clinic) -> object:
    def trust(offered: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        return [each for each in offered if each == clinic.root]

    return trust


@pytest.fixture
async def enrolled(box: Box, clinic: Clinic) -> Box:
    await asyncio.to_thread(box.enrolment(clinic.url).run, clinic.code(), trust=trusting(clinic))
    identity = box.config.identity.model_copy(update={"enrolment": clinic.url})
    return Box(GatewayConfig.model_validate({**box.config.model_dump(), "identity": identity.model_dump()}))


def leaf(box: Box) -> x509.Certificate:
    return x509.load_pem_x509_certificates(box.config.identity.tls_cert.read_bytes())[0]


async def renewed(box: Box) -> None:
    await asyncio.to_thread(renew, box.config.identity, GATEWAY)


async def test_the_next_certificate_is_for_the_same_key(enrolled: Box) -> None:
    first = leaf(enrolled)
    await renewed(enrolled)
    second = leaf(enrolled)
    assert second.serial_number != first.serial_number
    assert second.public_key() == load_private_key(enrolled.config.identity.tls_key).public_key()
    identity = enrolled.config.identity
    client_context(identity.ca, identity.tls_cert, identity.tls_key)


async def test_a_rollover_reaches_a_gateway_with_its_renewal(enrolled: Box, clinic: Clinic) -> None:
    new_generation(clinic.site, clinic.authority, passphrase=None, now=now(), active=now())
    publish(clinic.site, clinic.authority, now=now())
    await renewed(enrolled)
    assert leaf(enrolled).issuer == clinic.authority.generations(now())[1].issuer.subject
    roots = x509.load_pem_x509_certificates(enrolled.config.identity.ca.read_bytes())
    assert [each.subject for each in roots] == [each.root.subject for each in clinic.authority.generations(now())]


async def test_with_a_renewal_comes_who_is_revoked(enrolled: Box, clinic: Clinic) -> None:
    broker = x509.load_pem_x509_certificates((clinic.site.broker / "broker.crt").read_bytes())[0]
    clinic.authority.revoke("broker", now=now())
    publish(clinic.site, clinic.authority, now=now())
    await renewed(enrolled)
    assert load_revoked(enrolled.config.identity.ca.with_suffix(".crl")) == {broker.serial_number}


async def test_a_revoked_gateway_is_told_and_keeps_what_it_has(enrolled: Box, clinic: Clinic) -> None:
    before = leaf(enrolled)
    clinic.authority.revoke(GATEWAY, now=now())
    with pytest.raises(EnrolmentError, match="is revoked"):
        await renewed(enrolled)
    assert leaf(enrolled) == before


@pytest.mark.parametrize("path", ["simplereenroll", "cacerts", "crl"])
async def test_what_is_not_right_is_not_taken_into_use(enrolled: Box, clinic: Clinic, path: str) -> None:
    def spoil(request: Request, response: Response) -> Response:
        garbage = b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"
        return Response(200, garbage) if request.path.endswith(path) else response

    before, clinic.spoil = leaf(enrolled), spoil
    with pytest.raises(IdentityError):
        await renewed(enrolled)
    assert leaf(enrolled) == before


class Running:
    """A renewer that looks often."""

    def __init__(self, box: Box) -> None:
        self.metrics = GatewayMetrics()
        self.contexts: list[object] = []
        identity = box.config.identity
        tls = client_context(identity.ca, identity.tls_cert, identity.tls_key)
        self.renewer = Renewer(
            identity, GATEWAY, tls, on_context=self.contexts.append, metrics=self.metrics, look_s=0.05
        )

    def age(self) -> None:
        """Let the certificate be ten days old."""
        born = now() - 10 * DAY
        validity = Validity(born.timestamp(), (born + 14 * DAY).timestamp())
        self.renewer._renewal = Renewal(validity, mono_s=0.0, uniform=random.uniform)

    async def until(self, count: int) -> None:
        task = asyncio.create_task(self.renewer.run())
        try:
            async with asyncio.timeout(20):
                failures = "certificate_renewal_failures_total"
                while len(self.contexts) < count and not self.metrics.value(failures):  # noqa: ASYNC110 - its own task
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_an_old_certificate_is_renewed_and_the_new_context_handed_on(enrolled: Box) -> None:
    running, before = Running(enrolled), leaf(enrolled)
    running.age()
    await running.until(1)
    assert leaf(enrolled).serial_number != before.serial_number
    assert len(running.contexts) == 1
    expiry = running.metrics.value("tls_certificate_expiry_timestamp_seconds")
    assert expiry == int(leaf(enrolled).not_valid_after_utc.timestamp())


async def test_a_young_one_is_left_alone(enrolled: Box) -> None:
    running = Running(enrolled)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await running.until(1)
    assert not running.contexts


async def test_a_ca_that_is_away_is_counted_and_tried_again(enrolled: Box, clinic: Clinic) -> None:
    clinic.spoil = lambda _, response: Response(503) if response else response
    running = Running(enrolled)
    running.age()
    await running.until(1)
    assert running.metrics.value("certificate_renewal_failures_total") == 1
    assert not running.contexts


async def test_what_the_enrol_command_wrote_is_used_without_a_restart(enrolled: Box, clinic: Clinic) -> None:
    running = Running(enrolled)
    await asyncio.to_thread(enrolled.enrolment(clinic.url).run, clinic.code(), trust=trusting(clinic))
    await running.until(1)
    assert len(running.contexts) == 1


async def test_a_box_whose_clock_is_before_its_certificates_birth_still_renews(
    enrolled: Box, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    class In1970(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr("gateway.identity.tls.dt.datetime", In1970)
    identity = enrolled.config.identity
    context = client_context(identity.ca, identity.tls_cert, identity.tls_key)
    monkeypatch.undo()
    assert context.floor == leaf(enrolled).not_valid_before_utc
    assert context.verify_flags & 0x200000, "OpenSSL, which reads the same clock, leaves time to us"
    assert await asyncio.to_thread(EstClient(clinic.url, context).ca_certificates)
    running = Running(enrolled)
    running.renewer._tls.floor = context.floor
    await running.until(1)
    assert len(running.contexts) == 1, "a clock that was set counts from then on"
