"""Recipient keys of the cloud: made, rotated, destroyed; what was sealed to an old one opens until it is destroyed."""

import json
from pathlib import Path

import pytest

from gateway.cli import receiver as cli
from gateway.envelope.keylist import decode_key_list
from gateway.errors import ConfigError, IdentityError
from gateway.identity.files import load_verify_key
from gateway.receiver.fleet import Fleet, RecipientKeys
from gateway.receiver.site import Site
from tests.receiver.ca.conftest import NOW, make_site

NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", now=NOW)


@pytest.fixture
def fleet(site: Site) -> Fleet:
    return Fleet(site.receiver, site.offline)


def test_a_rotation_seals_to_a_fresh_key_alone_and_the_old_one_still_opens(site: Site, fleet: Fleet) -> None:
    [old] = fleet.files()
    made = fleet.rotate(passphrase=None, now_ms=NOW_MS)
    assert made.serial == 2
    [recipient] = made.recipients
    assert recipient.kid != old.key.kid
    root = load_verify_key(site.receiver / "fleet-root.pub")
    assert decode_key_list((site.receiver / "keys.cbor").read_bytes(), root, allow_classical=False) == made
    keys = RecipientKeys([site.receiver / "recipient-*.key"])
    enc, wrapped = old.key.recipient.wrap(b"s" * 32, b"info")
    assert keys[old.key.kid].unwrap(enc, wrapped, b"info") == b"s" * 32


def test_a_key_that_was_made_before_is_the_one_rotated_to(fleet: Fleet) -> None:
    made = fleet.new()
    [recipient] = fleet.rotate(passphrase=None, now_ms=NOW_MS).recipients
    assert recipient.kid == made.key.kid
    assert len(fleet.files()) == 2


def test_a_key_is_destroyed_only_when_no_gateway_seals_to_it(site: Site, fleet: Fleet) -> None:
    [old] = fleet.files()
    with pytest.raises(ConfigError, match="gateways still seal to it"):
        fleet.destroy(old.key.kid)
    fleet.rotate(passphrase=None, now_ms=NOW_MS)
    keys = RecipientKeys([site.receiver / "recipient-*.key"])
    fleet.destroy(old.key.kid)
    keys.refresh(every_s=0)
    assert old.key.kid not in keys
    assert len(keys) == 1
    with pytest.raises(ConfigError, match="no such recipient key"):
        fleet.destroy(old.key.kid)


def test_a_receiver_finds_a_new_key_without_a_restart(site: Site, fleet: Fleet) -> None:
    keys = RecipientKeys([site.receiver / "recipient-*.key"])
    made = fleet.new()
    assert made.key.kid not in keys
    keys.refresh(every_s=0)
    assert made.key.kid in keys


def test_a_receiver_without_any_key_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="there is no recipient key"):
        RecipientKeys([tmp_path / "recipient-*.key"])


def test_a_rotation_needs_the_fleet_root_that_lies_offline(site: Site, fleet: Fleet) -> None:
    key = site.offline / "fleet-root.key"
    content = key.read_bytes()
    key.unlink()
    with pytest.raises(IdentityError, match=r"fleet-root\.key: cannot be read"):
        fleet.rotate(passphrase=None, now_ms=NOW_MS)
    key.write_bytes((site.receiver / "receipt.key").read_bytes())
    key.chmod(0o600)
    with pytest.raises(IdentityError, match="is not this fleet's root"):
        fleet.rotate(passphrase=None, now_ms=NOW_MS)
    key.write_bytes(content)
    assert fleet.rotate(passphrase=None, now_ms=NOW_MS).serial == 2


def test_an_operator_does_it_by_command(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    def run(action: str, *arguments: str) -> str:
        parsed = cli.parser().parse_args(["keys", action, str(site.root), *arguments])
        assert parsed.command(parsed) == 0
        return capsys.readouterr().out

    old = json.loads(run("list", "--json"))
    assert old["sealed_to"]
    run("new")
    assert "key list 2" in run("rotate")
    with pytest.raises(ConfigError, match="say --yes"):
        run("destroy", old["kid"])
    assert "destroyed" in run("destroy", old["kid"], "--yes")
    assert "gateways seal to it" in run("list")
