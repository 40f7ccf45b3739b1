"""Keys that systemd hands over: encrypted by its own tool, found again, and no plain text left over."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli import gateway as cli
from gateway.config import CREDENTIALS, GatewayConfig, load
from gateway.errors import IdentityError
from gateway.identity.files import load_private_key
from gateway.identity.rung import plain_path, refuse_leftovers, seal
from gateway.lab.pki import make_dev_pki

GATEWAY = "gw-001"
TEXT = f'[gateway]\nid = "{GATEWAY}"\nstate_dir = "state"\n[uplink]\nendpoints = ["localhost:1"]\n[identity]\n'


class Box:
    """A gateway enrolled with keys in files."""

    def __init__(self, directory: Path) -> None:
        make_dev_pki(directory / "pki", [GATEWAY])
        self.identity = directory / "state" / "identity"
        self.identity.mkdir(parents=True, mode=0o700)
        own = directory / "pki" / "gateways" / GATEWAY
        for name in ("tls.key", "tls.crt", "sign.key", "sign.crt"):
            shutil.copy(own / name, self.identity / name)
        self.path = directory / "gateway.toml"
        self.path.write_text(TEXT)
        self.credstore = directory / "credstore"
        self.credstore.mkdir()

    def config(self) -> GatewayConfig:
        return load(self.path, GatewayConfig)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    if shutil.which("systemd-creds") is None:
        pytest.skip("systemd-creds is not installed; on Debian: apt install systemd")
    return Box(tmp_path)


def hand_over(box: Box, directory: Path) -> None:
    """As systemd does at the start of the service."""
    directory.mkdir(mode=0o700)
    for name in CREDENTIALS.values():
        command = ("systemd-creds", "decrypt", f"--name={name}", str(box.credstore / name), str(directory / name))
        subprocess.run(command, check=True, capture_output=True)
        (directory / name).chmod(0o400)


def test_keys_become_credentials_that_open_and_leave_no_plain_text(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_private_key(box.identity / "sign.key").public_key()
    made = seal(box.config(), with_key="host", credstore=box.credstore)
    assert {path.name for path in made} == set(CREDENTIALS.values())
    assert not list(box.identity.glob("*.key"))
    assert all(b"PRIVATE KEY" not in path.read_bytes() for path in made)
    box.path.write_text(TEXT + 'keys = "credential"\n')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    hand_over(box, tmp_path / "handed")
    config = box.config()
    refuse_leftovers(config)
    assert load_private_key(config.identity.signing_key).public_key() == before
    load_private_key(config.identity.tls_key)


def test_a_key_that_is_left_in_plain_text_is_refused_with_what_mends_it(box: Box) -> None:
    refuse_leftovers(box.config())
    box.path.write_text(TEXT + 'keys = "credential"\n')
    config = box.config()
    path = plain_path(config, CREDENTIALS["tls_key"])
    with pytest.raises(IdentityError, match=f"mend it with: shred -u {path}"):
        refuse_leftovers(config)


def test_a_key_that_cannot_be_encrypted_is_kept(box: Box) -> None:
    with pytest.raises(IdentityError, match="systemd-creds encrypt"):
        seal(box.config(), with_key="nonsense", credstore=box.credstore)
    assert len(list(box.identity.glob("*.key"))) == 2


def run(capsys: pytest.CaptureFixture[str], box: Box, *arguments: str) -> str:
    parsed = cli.parser().parse_args(["identity", *arguments, "--config", str(box.path)])
    assert parsed.command(parsed) == 0
    return capsys.readouterr().out


def test_the_commands_say_in_plain_words_what_each_rung_protects(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, box, "show")
    assert "It does not stop root or a thief of the disk" in said
    assert "No reading that was sealed before opens with them" in said
    said = run(capsys, box, "seal-keys", "--with-key", "host", "--credstore", str(box.credstore))
    assert 'keys = "credential"' in said
    for name in CREDENTIALS.values():
        assert f"LoadCredentialEncrypted={name}:{box.credstore / name}" in said
