"""The issuing key under a passphrase: who may sign, and what whoever may not is told."""

import datetime as dt
import getpass
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import receiver as cli
from gateway.errors import ConfigError, IdentityError
from gateway.receiver.ca.authority import TLS
from gateway.receiver.site import Site, maintain, new_generation
from tests.receiver.ca.conftest import GATEWAY, NOW, make_site, request, tls_key

SECRET = b"correct horse"


def init(tmp_path: Path, passphrase_file: str) -> Site:
    parsed = cli.parser().parse_args(
        ["init", str(tmp_path / "site"), "--host", "localhost", "--ca-passphrase-file", passphrase_file]
    )
    assert parsed.command(parsed) == 0
    return Site(tmp_path / "site")


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return path


def run(site: Site, *arguments: str) -> int:
    parsed = cli.parser().parse_args(["ca", arguments[0], str(site.root), *arguments[1:]])
    return int(parsed.command(parsed))


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let a person type these answers; the questions are kept."""
    waiting, asked = list(answers), []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return waiting.pop(0)

    monkeypatch.setattr(getpass, "getpass", ask)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    return asked


def test_the_key_is_encrypted_and_the_site_knows_where_its_passphrase_lies(
    tmp_path: Path, passphrase_file: Path
) -> None:
    site = init(tmp_path, str(passphrase_file))
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (site.ca / "issuer-1.key").read_bytes()
    assert site.config().ca.passphrase_file == passphrase_file
    now = dt.datetime.now(dt.UTC)
    with closing(site.authority()) as authority:
        code = authority.new_code(GATEWAY, now=now, valid=dt.timedelta(hours=1)).partition(":")[2]
        authority.enrol(request(tls_key()), TLS, gateway=GATEWAY, code=code, now=now)
        maintain(site, authority, now=now)
        new_generation(site, authority, passphrase=None, now=now, active=now)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (site.ca / "issuer-2.key").read_bytes()
    passphrase_file.write_bytes(b"wrong")
    with pytest.raises(IdentityError, match=r"issuer-1\.key: is not a private key under this passphrase"):
        run(site, "crl")
    passphrase_file.chmod(0o644)
    with pytest.raises(IdentityError, match="others may use this key"):
        run(site, "crl")


def test_a_person_is_asked_where_nothing_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = at_a_terminal(monkeypatch, *[SECRET.decode()] * 2, "wrong")
    site = init(tmp_path, "-")
    assert site.config().ca.passphrase_file == ""
    assert run(site, "crl") == 0
    assert asked == ["Passphrase of the issuing key: "] * 2
    with pytest.raises(IdentityError, match="is not a private key under this passphrase"):
        run(site, "crl")
    asked.clear()
    assert run(site, "list") == 0
    assert run(site, "otp", "gw-9") == 0
    assert not asked, "no key is needed"


def test_a_service_that_nobody_told_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_a_terminal(monkeypatch, SECRET.decode())
    site = init(tmp_path, "-")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(IdentityError, match=r"is encrypted; name ca\.passphrase_file in site\.toml"):
        run(site, "crl")


def test_an_empty_passphrase_is_none(tmp_path: Path, passphrase_file: Path) -> None:
    passphrase_file.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="holds no passphrase"):
        init(tmp_path, str(passphrase_file))
    assert not (tmp_path / "site").exists()


def test_a_plain_key_of_before_still_signs(tmp_path: Path, passphrase_file: Path) -> None:
    site = make_site(tmp_path / "site", now=NOW)
    path = site.root / "site.toml"
    path.write_text(path.read_text().replace('# passphrase_file = ""', f'passphrase_file = "{passphrase_file}"'))
    with closing(site.authority()) as authority:
        maintain(site, authority, now=NOW)
        new_generation(site, authority, passphrase=None, now=NOW, active=NOW)
    assert b"ENCRYPTED" not in (site.ca / "issuer-1.key").read_bytes()
    assert b"ENCRYPTED" in (site.ca / "issuer-2.key").read_bytes()
