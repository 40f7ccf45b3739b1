"""Enrolment as a stranger does it: curl and openssl against the CA's server, which runs as a process of its own."""

import asyncio
import datetime as dt
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.identity.site import decode_site
from gateway.lab.process import Child
from gateway.receiver.site import Site, publish
from tests.receiver.ca.conftest import DAY, GATEWAY, make_site

EST = "/.well-known/est"


@dataclass
class Stranger:
    """Somebody with curl and openssl, who knows the site's URL and root certificate."""

    site: Site
    url: str
    desk: Path

    async def run(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    async def curl(self, path: str, *options: str) -> tuple[int, str]:
        ca = str(self.site.ca / "ca.crt")
        answer = await self.run(
            "curl", "-s", "--tlsv1.3", "--cacert", ca, "-w", "\n%{http_code}", *options, self.url + path
        )
        body, _, status = answer.rpartition("\n")
        return int(status), body

    async def request(self, name: str, subject: str = f"/CN={GATEWAY}") -> str:
        """A P-256 key and a request for it, in base64, as curl posts it."""
        await self.run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        await self.run(
            "openssl", "req", "-new", "-key", f"{name}.key", "-subj", subject, "-outform", "der", "-out", f"{name}.der"
        )
        await self.run("openssl", "base64", "-in", f"{name}.der", "-out", f"{name}.b64")
        return f"@{name}.b64"

    async def certificate(self, answer: str, name: str) -> x509.Certificate:
        """The only certificate in an answer, kept as a file with its issuers."""
        (self.desk / f"{name}.p7.b64").write_text(answer)
        await self.run("openssl", "base64", "-d", "-in", f"{name}.p7.b64", "-out", f"{name}.p7")
        pem = await self.run("openssl", "pkcs7", "-inform", "der", "-in", f"{name}.p7", "-print_certs")
        [leaf] = x509.load_pem_x509_certificates(pem.encode())
        (self.desk / f"{name}.crt").write_text(pem + (self.site.ca / "ca.crt").read_text())
        return leaf

    def code(self) -> str:
        with closing(self.site.authority()) as authority:
            return authority.new_code(GATEWAY, now=dt.datetime.now(dt.UTC), valid=DAY)


@pytest.fixture
async def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stranger]:
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    (tmp_path / "logs").mkdir()
    (tmp_path / "desk").mkdir()
    site = make_site(tmp_path / "site", now=dt.datetime.now(dt.UTC))
    async with AsyncExitStack() as stack:
        server = await Child.serve("ca", "gateway.cli.receiver", "ca", "serve", str(site.root), logs=Path("logs"))
        stack.push_async_callback(server.stop)
        yield Stranger(site, site.config().site.url, tmp_path / "desk")


PKCS10 = ("-H", "Content-Type: application/pkcs10", "--data-binary")


async def test_a_stranger_enrols_and_renews_with_curl_and_openssl(stranger: Stranger) -> None:
    status, _ = await stranger.curl(f"{EST}/cacerts")
    assert status == 200
    csr = await stranger.request("first")
    code = stranger.code()
    status, body = await stranger.curl(f"{EST}/simpleenroll", "-u", code, *PKCS10, csr)
    assert status == 200
    first = await stranger.certificate(body, "first")
    assert [each.value for each in first.subject] == [GATEWAY]
    status, _ = await stranger.curl(f"{EST}/simpleenroll", "-u", code, *PKCS10, await stranger.request("thief"))
    assert status == 403
    mine = ("--cert", "first.crt", "--key", "first.key")
    status, body = await stranger.curl(f"{EST}/simplereenroll", *mine, *PKCS10, await stranger.request("second"))
    assert status == 200
    second = await stranger.certificate(body, "second")
    assert second.serial_number != first.serial_number
    await stranger.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "sign.key")
    await stranger.run(
        "openssl", "req", "-new", "-key", "sign.key", "-subj", f"/CN={GATEWAY}", "-outform", "der", "-out", "sign.der"
    )
    await stranger.run("openssl", "base64", "-in", "sign.der", "-out", "sign.b64")
    status, body = await stranger.curl(f"{EST}/signer/simpleenroll", "-u", code, *PKCS10, "@sign.b64")
    assert status == 200
    assert (await stranger.certificate(body, "sign")).subject.get_attributes_for_oid(NameOID.COMMON_NAME)


async def test_what_a_caller_must_show_is_asked_for(stranger: Stranger) -> None:
    csr = await stranger.request("any")
    assert (await stranger.curl(f"{EST}/simpleenroll", *PKCS10, csr))[0] == 401
    assert (await stranger.curl(f"{EST}/simplereenroll", *PKCS10, csr))[0] == 403
    assert (await stranger.curl(f"{EST}/simpleenroll", "-u", f"{GATEWAY}:wrong", *PKCS10, csr))[0] == 403
    assert (await stranger.curl(f"{EST}/simpleenroll", "-u", stranger.code(), *PKCS10, "not base64!"))[0] in {400, 403}
    assert (await stranger.curl(f"{EST}/other"))[0] == 404
    assert (await stranger.curl("/"))[0] == 404


async def test_a_revoked_gateway_renews_nothing_from_that_moment_on(stranger: Stranger) -> None:
    csr = await stranger.request("stolen")
    _, body = await stranger.curl(f"{EST}/simpleenroll", "-u", stranger.code(), *PKCS10, csr)
    await stranger.certificate(body, "stolen")
    mine = ("--cert", "stolen.crt", "--key", "stolen.key")
    assert (await stranger.curl(f"{EST}/simplereenroll", *mine, *PKCS10, csr))[0] == 200
    with closing(stranger.site.authority()) as authority:
        authority.revoke(GATEWAY, now=dt.datetime.now(dt.UTC))
        publish(stranger.site, authority, now=dt.datetime.now(dt.UTC))
    status, body = await stranger.curl(f"{EST}/simplereenroll", *mine, *PKCS10, csr)
    assert (status, body) == (403, f"the certificate of {GATEWAY} is revoked\n")
    status, crl = await stranger.curl("/v1/crl")
    assert status == 200
    assert len(x509.load_pem_x509_crl(crl.encode())) == 2


async def test_a_certificate_of_another_ca_does_not_get_through_tls(stranger: Stranger, tmp_path: Path) -> None:
    rogue = make_site(tmp_path / "rogue", now=dt.datetime.now(dt.UTC))
    theirs = ("--cert", str(rogue.receiver / "receiver.crt"), "--key", str(rogue.receiver / "receiver.key"))
    with pytest.raises(AssertionError):
        await stranger.curl(f"{EST}/cacerts", *theirs)


async def test_tls_below_1_3_is_refused(stranger: Stranger) -> None:
    with pytest.raises(AssertionError):
        await stranger.run("curl", "-sS", "-k", "--tls-max", "1.2", stranger.url + f"{EST}/cacerts")


async def test_the_site_file_stands_behind_the_root_alone(stranger: Stranger, tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    await stranger.curl("/v1/site", "-o", "site.cbor")
    data = (stranger.desk / "site.cbor").read_bytes()
    [root, _] = x509.load_pem_x509_certificates((stranger.site.ca / "ca.crt").read_bytes())
    told = decode_site(data, [root], at=now)
    assert told.endpoints == stranger.site.config().site.endpoints
    assert told.key_list == (stranger.site.receiver / "keys.cbor").read_bytes()
    rogue = make_site(tmp_path / "rogue", now=now)
    [other, _] = x509.load_pem_x509_certificates((rogue.ca / "ca.crt").read_bytes())
    for wrong, anchor in ((data, other), (data[:-1] + b"\x00", root), (b"", root)):
        with pytest.raises(Exception, match="site file"):
            decode_site(wrong, [anchor], at=now)


async def test_the_server_asks_for_what_the_profile_wants(stranger: Stranger) -> None:
    for label, expected in (("", b"prime256v1"), ("signer/", b"ED25519")):
        _, body = await stranger.curl(f"{EST}/{label}csrattrs")
        (stranger.desk / "attributes.b64").write_text(body + "\n")
        await stranger.run("openssl", "base64", "-d", "-in", "attributes.b64", "-out", "attributes.der")
        text = await stranger.run("openssl", "asn1parse", "-inform", "der", "-in", "attributes.der")
        assert expected in text.encode()
