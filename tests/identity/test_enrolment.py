"""From a one-time code to a gateway's identity: made here, certified there, checked before it is used."""

import asyncio
import base64
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from gateway.cli import gateway as cli
from gateway.config import GatewayConfig, load
from gateway.envelope.keys import signer_for
from gateway.errors import ConfigError, EnrolmentError
from gateway.identity.chain import fingerprint, trusted_roots, verify_chain
from gateway.identity.files import load_owner, load_private_key
from gateway.identity.keyring import KeyRing
from gateway.identity.site import SiteFile
from gateway.identity.tls import client_context
from gateway.observe.http import Request, Response
from gateway.receiver.site import maintain, new_generation
from tests.identity.conftest import DAY, GATEWAY, Box, Clinic, now


def everything(box: Box) -> set[str]:
    return {path.name for path in box.config.gateway.state_dir.rglob("*") if path.is_file()}


async def enrol(box: Box, clinic: Clinic, code: str) -> SiteFile:
    def trust(offered: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        return [each for each in offered if each == clinic.root]

    return await asyncio.to_thread(box.enrolment(clinic.url).run, code, trust=trust)


async def test_a_box_gets_all_that_a_gateway_needs(box: Box, clinic: Clinic) -> None:
    told = await enrol(box, clinic, clinic.code())
    identity = box.config.identity
    assert told.endpoints == clinic.site.config().site.endpoints
    client_context(identity.ca, identity.tls_cert, identity.tls_key)
    for path in (identity.tls_cert, identity.signing_cert):
        load_owner(path, GATEWAY)
    signer_for(load_private_key(identity.signing_key))
    ring = KeyRing.open(
        shipped=identity.key_list, kept=Path("/nonexistent"), root=identity.fleet_root, allow_classical=False
    )
    assert ring.current.serial == 1
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (identity.tls_key, identity.signing_key)}
    assert modes == {0o600}
    assert identity.tls_key.read_bytes() != identity.signing_key.read_bytes()


async def test_an_enrolment_that_was_cut_is_done_again_with_the_same_code(box: Box, clinic: Clinic) -> None:
    def cut(request: Request, response: Response) -> Response:
        return Response(503) if request.path == "/v1/site" else response

    code, whole = clinic.code(), clinic.spoil
    clinic.spoil = cut
    with pytest.raises(EnrolmentError, match="503"):
        await enrol(box, clinic, code)
    assert everything(box) == {"tls.key", "sign.key"}
    keys = box.config.identity.signing_key.read_bytes()
    clinic.spoil = whole
    await enrol(box, clinic, code)
    assert box.config.identity.signing_key.read_bytes() == keys
    assert len([each for each in clinic.authority.certificates() if each.name == GATEWAY]) == 2


async def test_a_code_that_another_box_has_used_says_so(box: Box, clinic: Clinic) -> None:
    code = clinic.code()
    await enrol(box, clinic, code)
    for key in (box.config.identity.tls_key, box.config.identity.signing_key):
        key.unlink()
    with pytest.raises(EnrolmentError, match="this one-time code has been used"):
        await enrol(box, clinic, code)


async def test_the_code_is_sent_to_no_server_but_the_one_that_is_vouched_for(box: Box, clinic: Clinic) -> None:
    seen: list[Request] = []

    def watch(request: Request, response: Response) -> Response:
        seen.append(request)
        return response

    clinic.spoil = watch
    with pytest.raises(EnrolmentError, match="other site"):
        await asyncio.to_thread(box.enrolment(clinic.url).run, clinic.code(), trust=refuse)
    assert [request.path for request in seen] == ["/.well-known/est/cacerts"]
    assert not any("authorization" in request.headers for request in seen)


def refuse(_: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    raise EnrolmentError("other site")


def swapped(clinic: Clinic) -> Callable[[Request, Response], Response]:
    """A CA that certifies what it was not asked for."""
    other = x509.load_pem_x509_certificates((clinic.site.receiver / "receiver.crt").read_bytes())[0]
    body = base64.encodebytes(pkcs7.serialize_certificates([other], Encoding.DER))

    def spoil(request: Request, response: Response) -> Response:
        return Response(200, body) if request.path.endswith("simpleenroll") else response

    return spoil


def nonsense(path: str) -> Callable[[Clinic], Callable[[Request, Response], Response]]:
    def spoil(request: Request, response: Response) -> Response:
        return Response(200, b"nonsense") if request.path.endswith(path) else response

    return lambda _: spoil


@pytest.mark.parametrize(
    ("spoiler", "named"),
    [
        (swapped, "the CA certified 'receiver' instead of 'gw-001'"),
        (nonsense("simpleenroll"), "not a certs-only CMS message"),
        (nonsense("cacerts"), "not a certs-only CMS message"),
        (nonsense("site"), "site file is not to be believed"),
    ],
)
async def test_what_is_not_right_is_not_taken_into_use(
    box: Box, clinic: Clinic, spoiler: Callable[[Clinic], Callable[[Request, Response], Response]], named: str
) -> None:
    clinic.spoil = spoiler(clinic)
    with pytest.raises(EnrolmentError, match=named):
        await enrol(box, clinic, clinic.code())
    assert everything(box) <= {"tls.key", "sign.key"}


async def test_a_new_root_is_believed_only_if_the_old_one_vouches_for_it(clinic: Clinic) -> None:
    first = clinic.root
    made = new_generation(clinic.site, clinic.authority, passphrase=None, now=now(), active=now() + DAY)
    assert made.link is not None
    assert trusted_roots([first], [first, made.root, made.link]) == [first, made.root]
    assert trusted_roots([first], [first, made.root]) == [first]
    assert trusted_roots([made.root], [first, made.link]) == [made.root]


async def test_a_box_enrolled_before_a_rollover_trusts_what_comes_after_it(box: Box, clinic: Clinic) -> None:
    new_generation(clinic.site, clinic.authority, passphrase=None, now=now(), active=now() + 31 * DAY)
    await enrol(box, clinic, clinic.code())
    known = x509.load_pem_x509_certificates(box.config.identity.ca.read_bytes())
    later = now() + 32 * DAY
    maintain(clinic.site, clinic.authority, now=later)
    broker, *issuers = x509.load_pem_x509_certificates((clinic.site.broker / "broker.crt").read_bytes())
    assert broker.issuer == clinic.authority.generations(later)[1].issuer.subject
    for root in known:
        verify_chain(broker, roots=[root], issuers=issuers, usage="server", at=later)
    assert len(known) == 2


async def command(*arguments: str) -> None:
    parsed = cli.parser().parse_args(["enrol", *arguments])
    assert await asyncio.to_thread(parsed.command, parsed) == 0


async def test_the_command_writes_a_configuration_that_runs(
    clinic: Clinic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = tmp_path / "etc" / "gateway.toml", tmp_path / "var"
    options = ("--config", str(path), "--state-dir", str(state), "--ca-fingerprint", fingerprint(clinic.root))
    await command("--url", clinic.url, "--otp", clinic.code(), *options)
    config = load(path, GatewayConfig)
    assert config.gateway.id == GATEWAY
    assert config.uplink.endpoints == clinic.site.config().site.endpoints
    assert config.identity.enrolment == clinic.url
    assert config.identity.tls_cert == state / "identity" / "tls.crt"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    said = capsys.readouterr().out
    assert f"{GATEWAY} is enrolled." in said
    assert f"Next: iomt-gateway run --config {path}" in said


async def test_the_command_keeps_a_configuration_and_says_what_to_change(
    clinic: Clinic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    text = f'[gateway]\nid = "{GATEWAY}"\nstate_dir = "state"\n[uplink]\nendpoints = ["old.invalid:8883"]\n'
    path.write_text(text)
    options = ("--config", str(path), "--ca-fingerprint", fingerprint(clinic.root))
    await command("--url", clinic.url, "--otp", clinic.code(), *options)
    assert path.read_text() == text
    said = capsys.readouterr().out
    assert f'endpoints = ["{clinic.site.config().site.endpoints[0]}"]' in said
    assert f'enrolment = "{clinic.url}"' in said
    assert "old.invalid has no address now" in said, "and yet it is enrolled: the code is spent"


async def test_the_command_names_what_is_missing_or_wrong(clinic: Clinic, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    where = ("--url", clinic.url, "--config", str(path), "--state-dir", str(tmp_path / "var"))
    with pytest.raises(ConfigError, match="is not GATEWAY:CODE"):
        await command(*where, "--otp", "ABCDE")
    with pytest.raises(EnrolmentError, match=f"give {fingerprint(clinic.root)}"):
        await command(*where, "--otp", clinic.code())
    with pytest.raises(EnrolmentError, match="the server is of another site"):
        await command(*where, "--otp", clinic.code(), "--ca-fingerprint", "00" * 32)
    with pytest.raises(EnrolmentError, match="cannot be reached"):
        await command("--url", "https://localhost:1", *where[2:], "--otp", clinic.code(), "--ca-fingerprint", "00")
    assert not path.exists()
    path.write_text('[gateway]\nid = "gw-2"\nstate_dir = "s"\n[uplink]\nendpoints = ["x:1"]\n')
    with pytest.raises(ConfigError, match=r"gateway\.id is gw-2, but the code is for gw-001"):
        await command(*where, "--otp", clinic.code(), "--ca-fingerprint", fingerprint(clinic.root))
