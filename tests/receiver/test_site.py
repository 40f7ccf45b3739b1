"""A site in one command: complete, private, all of it or nothing, and accepted by everybody who reads it."""

import datetime as dt
import json
import re
import stat
import tomllib
from pathlib import Path

import pytest

from gateway.cli import gateway as gateway_cli
from gateway.cli import receiver as cli
from gateway.config import load
from gateway.envelope.keylist import decode_key_list
from gateway.errors import ConfigError, IdentityError
from gateway.identity.files import load_private_key, load_registry, load_verify_key
from gateway.identity.tls import client_context, server_context
from gateway.receiver.config import ReceiverConfig, SiteConfig
from gateway.receiver.fleet import RecipientKeys
from gateway.receiver.site import Site, create
from gateway.receiver.sqlite import SqliteStore

NOW = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)


def make(root: Path, passphrase: bytes | None = None, now: dt.datetime = NOW) -> Site:
    return create(
        root,
        "clinic.example",
        broker_port=8883,
        enrolment_port=8443,
        passphrase=passphrase,
        with_receiver=True,
        now=now,
    )


def test_everything_in_it_is_read_by_whom_it_is_made_for(tmp_path: Path) -> None:
    site = make(tmp_path / "site")
    config = load(site.root / "receiver.toml", ReceiverConfig)
    client_context(config.tls.ca, config.tls.cert, config.tls.key)
    assert not load_registry(config.receiver.registry)
    [recipient] = RecipientKeys(config.receiver.recipient_keys).values()
    root = load_verify_key(site.receiver / "fleet-root.pub")
    listed = decode_key_list(config.receiver.key_list.read_bytes(), root, allow_classical=False)
    assert [each.kid for each in listed.recipients] == [recipient.kid]
    SqliteStore.open(config.receiver.state_dir).close()
    server_context(site.ca / "ca.crt", site.ca / "enrolment.crt", site.ca / "enrolment.key")
    assert site.config().site.url == "https://clinic.example:8443"
    assert site.config().site.endpoints == ("clinic.example:8883",)


def test_every_secret_is_its_owners_alone(tmp_path: Path) -> None:
    site = make(tmp_path / "site")
    secrets = [*site.root.rglob("*.key"), *site.root.rglob("*.sqlite"), *site.root.rglob("*.db")]
    assert len(secrets) == 11
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_the_passphrase_encrypts_what_is_kept_offline(tmp_path: Path) -> None:
    site = make(tmp_path / "site", b"correct horse")
    for path in (site.offline / "root.key", site.offline / "fleet-root.key"):
        assert b"ENCRYPTED" in path.read_bytes()
        load_private_key(path, b"correct horse")
        with pytest.raises(IdentityError, match="not an unencrypted private key"):
            load_private_key(path)


def test_what_exists_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "precious").write_text("kept")
    with pytest.raises(ConfigError, match="exists already, and is kept"):
        make(tmp_path / "site")
    assert [path.name for path in tmp_path.rglob("*")] == ["site", "precious"]


def test_a_site_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "keys.cbor")

    monkeypatch.setattr("gateway.receiver.site._give_to_services", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        make(tmp_path / "site")
    assert not (tmp_path / "site").exists()
    monkeypatch.undo()
    assert make(tmp_path / "site").root.is_dir()


def test_the_shipped_site_file_shows_every_key_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "config" / "site.toml").read_text()
    filled = text.replace("$URL", "https://x:1").replace("$ENDPOINT", "x:2").replace("$EST_PORT", "8443")
    document = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", filled, flags=re.MULTILINE))
    shown = SiteConfig.model_validate(document)
    assert shown.ca == SiteConfig.model_validate({"site": document["site"]}).ca
    assert set(document["ca"]) == set(type(shown.ca).model_fields)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parsed = cli.parser().parse_args(arguments)
    assert parsed.command(parsed) == 0
    return capsys.readouterr().out


def test_the_command_prints_what_to_run_next_and_the_gateways_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "site")
    said = json.loads(run(capsys, "init", root, "--host", "::1", "--gateway", "gw-7", "--json"))
    assert [command.split()[0] for command in said["run"]] == ["mosquitto", "iomt-receiver", "iomt-receiver"]
    assert "--url https://[::1]:8443 --otp gw-7:" in said["enrol"]
    assert "--ca-fingerprint" in said["enrol"]
    for name in ("site.toml", "receiver.toml"):
        parsed = gateway_cli.parser().parse_args(["config", "check", f"{root}/{name}"])
        assert parsed.command(parsed) == 0
    assert "gw-8:" in run(capsys, "ca", "otp", root, "gw-8")
    run(capsys, "ca", "crl", root)
    listed = [json.loads(line) for line in run(capsys, "ca", "list", root, "--json").splitlines()]
    assert {each["name"] for each in listed} == {"broker", "enrolment", "site", "receiver"}
    assert "generation 2" in run(capsys, "ca", "rollover", root)
    with pytest.raises(ConfigError, match="has no certificate"):
        run(capsys, "ca", "revoke", root, "gw-9")


def test_a_ca_alone_needs_no_receiver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(tmp_path / "ca")
    assert "ca serve" in run(capsys, "ca", "init", root, "--host", "clinic.example")
    assert not (tmp_path / "ca" / "receiver").exists()
    assert not (tmp_path / "ca" / "receiver.toml").exists()
    assert "gw-1:" in run(capsys, "ca", "otp", root, "gw-1")


def test_a_code_that_nobody_has_used_yet_can_be_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(tmp_path / "ca")
    run(capsys, "ca", "init", root, "--host", "127.0.0.1", "--broker-port", "1")
    run(capsys, "ca", "otp", root, "gw-1")
    assert "its code is dead" in run(capsys, "ca", "revoke", root, "gw-1")
    with pytest.raises(ConfigError, match="no certificate and no code"):
        run(capsys, "ca", "revoke", root, "gw-2")


@pytest.mark.parametrize("server", ["receiver", "broker", "receiver.west"])
def test_a_server_of_the_sites_own_is_revoked_only_by_somebody_who_says_that_it_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: str
) -> None:
    root = str(tmp_path / "site")
    run(capsys, "init", root, "--host", "127.0.0.1", "--broker-port", "1")
    before = run(capsys, "ca", "list", root)
    with pytest.raises(ConfigError, match=f"{server}: is no gateway.* say --yes"):
        run(capsys, "ca", "revoke", root, server)
    assert run(capsys, "ca", "list", root) == before


@pytest.mark.parametrize(("days", "state"), [(0, "valid"), (400, "expired")])
def test_the_list_tells_what_is_valid_expired_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: int, state: str
) -> None:
    place = make(tmp_path / "site", now=dt.datetime.now(dt.UTC) - dt.timedelta(days=days))
    run(capsys, "ca", "revoke", "--yes", str(place.root), "enrolment")
    listed = [json.loads(line) for line in run(capsys, "ca", "list", str(place.root), "--json").splitlines()]
    states = {each["name"]: each["state"] for each in listed}
    assert (states["enrolment"], states["broker"]) == ("revoked", state)
    lines = run(capsys, "ca", "list", str(place.root)).splitlines()
    assert [line.split()[2] for line in lines] == [each["state"] for each in listed]


def test_a_revocation_that_was_cut_is_published_when_it_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "ca"
    run(capsys, "ca", "init", str(root), "--host", "127.0.0.1", "--broker-port", "1")
    run(capsys, "ca", "revoke", "--yes", str(root), "enrolment")
    (root / "broker" / "ca.crl").unlink()
    assert "none new" in run(capsys, "ca", "revoke", "--yes", str(root), "enrolment")
    assert (root / "broker" / "ca.crl").exists()


@pytest.mark.parametrize("hours", ["0", "-1", "1e10", "nan", "soon"])
def test_a_code_that_could_not_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hours: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(capsys, "ca", "otp", str(tmp_path), "gw-1", f"--hours={hours}")
    assert "--hours" in capsys.readouterr().err


def test_commands_on_what_is_no_site_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"site\.toml: cannot be read"):
        run(capsys, "ca", "list", str(tmp_path))
