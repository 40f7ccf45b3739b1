"""A certificate of erasure at the site: believed only from its gateway, and held against what the store has."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import receiver as cli
from gateway.config import load
from gateway.envelope.keys import Signer, signer_for
from gateway.envelope.seal import ChainWriter
from gateway.errors import ConfigError, SealError, SignerError
from gateway.identity.erasure import Erasure, encode_erasure
from gateway.identity.files import load_private_key, load_recipient_key
from gateway.lab.pki import make_dev_pki
from gateway.model import Batch, Link, Record
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.plan import Message
from gateway.receiver.registry import Registry
from gateway.receiver.worker import open_intake

GATEWAY, OTHER = "gw-1", "gw-2"
NOW_MS = 1_790_000_000_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_dev_pki(tmp_path, [GATEWAY, OTHER])
    (tmp_path / "receiver.toml").write_text(
        """
        [receiver]
        state_dir = "state"
        registry = "registry.json"
        recipient_keys = ["recipient.key"]
        receipt_key = "receipt.key"
        key_list = "keys.cbor"
        [tls]
        ca = "ca.crt"
        cert = "receiver.crt"
        key = "receiver.key"
        [broker]
        endpoints = ["localhost:1"]
        """
    )
    return tmp_path


def signer(place: Path, gateway: str = GATEWAY) -> Signer:
    return signer_for(load_private_key(place / "gateways" / gateway / "sign.key"))


def stored(place: Path, count: int) -> list[Link]:
    """Let the receiver store so many bundles; their links."""
    writer = ChainWriter(
        gateway=GATEWAY,
        chain=b"c" * 16,
        signer=signer(place),
        recipients=[load_recipient_key(place / "recipient.key").recipient],
        predecessor=None,
        random=bytes,
    )
    config = load(place / "receiver.toml", ReceiverConfig)
    intake, links = open_intake(config, Registry(place / "registry.json")), []
    with closing(intake.store):
        for number in range(count):
            batch = Batch(bytes(16), (Record("C0:00:00:00:00:01", 1, number, 0, NOW_MS),))
            bundle, _ = writer.seal([batch], now_ms=NOW_MS)
            intake.take([Message(GATEWAY, bundle.data)], now_ms=NOW_MS)
            assert writer.head is not None
            links.append(writer.head)
    return links


def certificate(place: Path, *heads: Link, by: Signer | None = None, gateway: str = GATEWAY) -> Path:
    path = place / "erasure.cose"
    path.write_bytes(encode_erasure(Erasure(gateway, NOW_MS, heads, 3), by or signer(place)))
    return path


def erased(place: Path, capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, dict[str, object]]:
    parsed = cli.parser().parse_args(["erased", str(path), "--config", str(place / "receiver.toml"), "--json"])
    status = parsed.command(parsed)
    return status, json.loads(capsys.readouterr().out)


def test_one_that_the_store_agrees_with_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *_, last = stored(place, 3)
    path = certificate(place, last)
    status, told = erased(place, capsys, path)
    assert status == 0
    assert told["gateway"] == GATEWAY
    assert told["discarded_bundles"] == 3
    assert told["last_bundles"] == [f"{last.chain.hex()}:2 stored"]
    kept = Path(str(told["kept"]))
    assert kept.read_bytes() == path.read_bytes()
    assert kept.stat().st_mode & 0o077 == 0
    assert erased(place, capsys, path)[0] == 0, "again"


def test_what_never_arrived_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(place, 1)
    status, told = erased(place, capsys, certificate(place, Link(b"c" * 16, 7, bytes(32))))
    assert (status, told["last_bundles"]) == (0, [f"{(b'c' * 16).hex()}:7 missing"])


def test_bundles_after_the_end_contradict_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, middle, _ = stored(place, 3)
    status, told = erased(place, capsys, certificate(place, middle))
    assert (status, told["last_bundles"]) == (1, [f"{middle.chain.hex()}:1 contradicted"])


def test_only_the_gateways_own_signer_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(place, 1)
    with pytest.raises(SignerError, match="signed by gw-2, but for gw-1"):
        erased(place, capsys, certificate(place, by=signer(place, OTHER)))
    make_dev_pki(place / "elsewhere", [GATEWAY])
    with pytest.raises(SignerError, match="never signed for a gateway of this site"):
        erased(place, capsys, certificate(place, by=signer(place / "elsewhere")))
    assert not (place / "state" / "erasures").exists()


def test_that_its_signer_is_revoked_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [last] = stored(place, 1)
    Registry(place / "registry.json").revoke(GATEWAY)
    status, told = erased(place, capsys, certificate(place, last))
    assert (status, told["signer_revoked"]) == (0, True)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xd2\x84"])
def test_what_is_none_is_refused(place: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = place / "none"
    path.write_bytes(content)
    with pytest.raises(SealError):
        erased(place, capsys, path)
    with pytest.raises(ConfigError, match="absent: cannot be read"):
        erased(place, capsys, place / "absent")
