"""What a gateway asks its CA between renewals: who is revoked, and when to renew."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from gateway.errors import EnrolmentError, TryLaterError
from gateway.identity import renewing
from gateway.identity.est import EstClient, RenewalInfo, certificate_id
from gateway.identity.lookup import look
from gateway.identity.tls import anonymous_context, load_revoked
from gateway.lab.site import free_port
from gateway.observe.http import Request, Response
from gateway.receiver.site import new_generation, publish
from tests.identity.conftest import DAY, GATEWAY, Box, Clinic, now
from tests.identity.test_renewing import Running, enrolled, leaf, renewed
from tests.receiver.ca.conftest import make_site

__all__ = ["enrolled"]


async def looked(box: Box) -> RenewalInfo | None:
    return await asyncio.to_thread(look, box.config.identity)


def revoked(box: Box) -> frozenset[int]:
    return load_revoked(box.config.identity.ca.with_suffix(".crl"))


def answering(path: str, *responses: Response) -> Callable[[Request, Response], Response]:
    """Answer requests for what ends so with one response after the other, the last for ever."""
    waiting = list(responses)

    def spoil(request: Request, response: Response) -> Response:
        if path not in request.path:
            return response
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return spoil


async def test_who_is_revoked_is_known_without_a_renewal(enrolled: Box, clinic: Clinic) -> None:
    before = leaf(enrolled)
    await looked(enrolled)
    assert revoked(enrolled) == frozenset()
    broker = x509.load_pem_x509_certificates((clinic.site.broker / "broker.crt").read_bytes())[0]
    clinic.authority.revoke("broker", now=now())
    publish(clinic.site, clinic.authority, now=now())
    await looked(enrolled)
    assert revoked(enrolled) == {broker.serial_number}
    assert leaf(enrolled) == before


async def test_an_older_list_does_not_bring_the_revoked_back(enrolled: Box, clinic: Clinic) -> None:
    older = (clinic.site.ca / "ca.crl").read_bytes()
    clinic.authority.revoke("broker", now=now())
    publish(clinic.site, clinic.authority, now=now())
    await looked(enrolled)
    known = revoked(enrolled)
    clinic.spoil = answering("/v1/crl", Response(200, older))
    await looked(enrolled)
    await renewed(enrolled)
    assert revoked(enrolled) == known != frozenset()


async def test_a_list_that_the_ca_did_not_sign_is_refused(enrolled: Box, clinic: Clinic, tmp_path: Path) -> None:
    rogue = make_site(tmp_path / "rogue", now=now())
    await looked(enrolled)
    kept = enrolled.config.identity.ca.with_suffix(".crl").read_bytes()
    clinic.spoil = answering("/v1/crl", Response(200, (rogue.ca / "ca.crl").read_bytes()))
    with pytest.raises(EnrolmentError, match="not signed by the CA"):
        await looked(enrolled)
    assert enrolled.config.identity.ca.with_suffix(".crl").read_bytes() == kept


async def test_the_small_ca_says_when_to_renew_and_sooner_after_a_rollover(enrolled: Box, clinic: Clinic) -> None:
    info, certificate = await looked(enrolled), leaf(enrolled)
    assert info is not None
    assert info.again_s == 300
    half = now() + 7 * DAY
    assert abs(info.start_s - half.timestamp()) < 3600
    new_generation(clinic.site, clinic.authority, passphrase=None, now=now(), active=now())
    info = await looked(enrolled)
    assert info is not None
    assert info.start_s <= now().timestamp() < info.end_s
    await renewed(enrolled)
    assert leaf(enrolled).issuer != certificate.issuer
    info = await looked(enrolled)
    assert info is not None
    assert abs(info.start_s - half.timestamp()) < 3600


@pytest.mark.parametrize(
    "window",
    [
        {"start": "2027-01-02T04:00:00Z", "end": "2027-01-02T04:00:00Z"},
        {"start": "2027-01-02T04:00:00Z", "end": "2027-01-01T04:00:00Z"},
    ],
)
async def test_a_window_that_is_none_is_as_no_answer(enrolled: Box, clinic: Clinic, window: dict[str, str]) -> None:
    clinic.spoil = answering("renewal-info", Response(200, json.dumps({"suggestedWindow": window}).encode()))
    assert await looked(enrolled) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"suggestedWindow": {"start": 1, "end": 2}}'])
async def test_what_is_no_renewal_information_is_an_error_that_names_the_server(
    enrolled: Box, clinic: Clinic, body: bytes
) -> None:
    clinic.spoil = answering("renewal-info", Response(200, body))
    with pytest.raises(EnrolmentError, match=f"{clinic.url}: its renewal information"):
        await looked(enrolled)


async def test_a_server_that_offers_neither_is_fine(enrolled: Box, clinic: Clinic) -> None:
    clinic.spoil = lambda request, response: (
        response if "simple" in request.path or "cacerts" in request.path else Response(404)
    )
    assert await looked(enrolled) is None
    before = leaf(enrolled)
    await renewed(enrolled)
    assert leaf(enrolled) != before


@pytest.mark.parametrize(
    ("status", "value", "after_s"),
    [
        (202, "120", 120.0),
        (503, "Wed, 25 Nov 2026 10:02:00 GMT", 120.0),
        (429, "999999999", 86_400.0),
    ],
)
async def test_a_server_that_wants_to_be_asked_later_says_when(
    enrolled: Box, clinic: Clinic, status: int, value: str, after_s: float
) -> None:
    headers = (("Retry-After", value), ("Date", "Wed, 25 Nov 2026 10:00:00 GMT"))
    clinic.spoil = answering("simplereenroll", Response(status, b"not yet\n", headers=headers))
    before = leaf(enrolled)
    with pytest.raises(TryLaterError, match="not yet") as error:
        await renewed(enrolled)
    assert error.value.after_s == after_s
    assert leaf(enrolled) == before


async def test_without_a_time_that_can_be_read_it_is_a_refusal(enrolled: Box, clinic: Clinic) -> None:
    for value in ("", "soon", "-1", "Wed, 25 Nov 2026 10:02:00 GMT"):
        clinic.spoil = answering("simplereenroll", Response(202, headers=(("Retry-After", value),)))
        with pytest.raises(EnrolmentError, match="refused") as error:
            await renewed(enrolled)
        assert not isinstance(error.value, TryLaterError)


async def test_the_name_of_a_certificate_is_that_of_the_draft(enrolled: Box) -> None:
    issuer, serial = certificate_id(leaf(enrolled)).split(".")
    key = leaf(enrolled).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert base64.urlsafe_b64decode(issuer + "==") == key
    assert int.from_bytes(base64.urlsafe_b64decode(serial + "=="), "big", signed=True) == leaf(enrolled).serial_number


async def test_the_server_tells_a_wrong_name_from_an_unknown_certificate(enrolled: Box, clinic: Clinic) -> None:
    identity = enrolled.config.identity
    client = EstClient(clinic.url, anonymous_context(identity.ca, identity.tls_cert))
    statuses = {}
    for name in ("nonsense", "a.b.c", "!.!", "YQ.YQ", certificate_id(leaf(enrolled))):
        path = f"/.well-known/est/renewal-info/{name}"
        statuses[name], *_ = await asyncio.to_thread(client._exchange, "GET", path)
    assert [*statuses.values()] == [400, 400, 400, 404, 200]
    clinic.authority.revoke(GATEWAY, now=now())
    status, *_ = await asyncio.to_thread(client._exchange, "GET", path)
    assert status == 404, "nothing renews it"


async def test_a_running_gateway_takes_the_list_and_connects_anew(
    enrolled: Box, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewing, "_ASK_EVERY_S", 0.2)
    running = Running(enrolled)
    clinic.authority.revoke("broker", now=now())
    publish(clinic.site, clinic.authority, now=now())
    await running.until(1)
    assert running.contexts[0].revoked == revoked(enrolled) != frozenset()


async def test_a_ca_that_is_away_is_told_once_and_costs_nothing(
    enrolled: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewing, "_ASK_EVERY_S", 0.05)
    identity = enrolled.config.identity.model_copy(update={"enrolment": f"https://localhost:{free_port()}"})
    enrolled.config = enrolled.config.model_copy(update={"identity": identity})
    running = Running(enrolled)
    task = asyncio.create_task(running.renewer.run())
    await asyncio.sleep(1.5)
    task.cancel()
    assert len([each for each in caplog.messages if "does not tell who is revoked" in each]) == 1
    assert not running.contexts
