"""A backup: all that makes a box, for the operator's key alone; and a restore, which overwrites and forks nothing."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load
from gateway.control import continuation
from gateway.control.backup import Backup, gather, seal, unseal
from gateway.control.continuation import Continuation
from gateway.control.restore import Restored, restore
from gateway.envelope import cbor
from gateway.errors import ConfigError, IdentityError
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import write_configurations
from gateway.model import Lane, Link
from gateway.receiver.fleet import new_recipient_key

WEARABLE, ADAPTER = "F0:00:00:00:01:01", "DC:A6:32:00:00:01"
LAST = Link(b"c" * 16, 41, b"h" * 32)
KEY, _ = new_recipient_key()
DEVICES = {
    "schema": 2,
    "devices": [{"address": WEARABLE, "profile": "cgm", "stream": "0a" * 16, "bond": "authenticated"}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The configuration of a box with one wearable, whose state lies in the places as shipped."""
    pki = tmp_path / "pki"
    make_dev_pki(pki, ["gw-001"])
    box = tmp_path / "box"
    (box / "state" / "identity").mkdir(mode=0o700, parents=True)
    shipped, _ = write_configurations(pki, "gw-001")
    text = shipped.read_text().replace('"gateway-state"', '"state"')
    (box / "gateway.toml").write_text(
        "\n".join(
            line
            for line in text.splitlines()
            if "gateways/" not in line
            and '"ca.crt"' not in line
            and '"fleet-root.pub"' not in line
            and '"keys.cbor"' not in line
        )
    )
    for name in ("tls.crt", "tls.key", "sign.crt", "sign.key"):
        (pki / "gateways" / "gw-001" / name).rename(box / "state" / "identity" / name)
    for name in ("ca.crt", "ca.crl", "fleet-root.pub", "keys.cbor"):
        (pki / name).rename(box / "state" / "identity" / name)
    (box / "state" / "devices.json").write_text(json.dumps(DEVICES))
    return box / "gateway.toml"


def bluez(root: Path, adapter: str, *wearables: str) -> Path:
    """What bluetoothd keeps below /var/lib/bluetooth."""
    (root / adapter).mkdir(parents=True)
    (root / adapter / "settings").write_text("[General]\nDiscoverable=false\n")
    for wearable in wearables:
        (root / adapter / wearable).mkdir()
        (root / adapter / wearable / "info").write_text("[LongTermKey]\nKey=00112233445566778899AABBCCDDEEFF\n")
    return root


def taken(path: Path, bluetooth: Path = Path("/nowhere")) -> Backup:
    return gather(path, load(path, GatewayConfig), now_ms=1_795_500_000_000, bluetooth=bluetooth)


def made(
    backup: Backup, path: Path, bluetooth: Path = Path("/nowhere"), after: Mapping[Lane, Link] | None = None
) -> Restored:
    return restore(backup, path, after=after or {Lane.DATA: LAST}, bluetooth=bluetooth)


def test_a_new_box_is_what_the_old_one_was(path: Path, tmp_path: Path) -> None:
    data = seal(taken(path), KEY.recipient)
    new = tmp_path / "new" / "gateway.toml"
    assert made(unseal(data, KEY), new) == Restored("gw-001", keys=True, wearables=1, bonded=False)
    before, after = load(path, GatewayConfig), load(new, GatewayConfig)
    assert new.read_bytes() == path.read_bytes()
    for role in ("tls_key", "signing_key", "tls_cert", "signing_cert", "ca", "fleet_root", "key_list"):
        restored: Path = getattr(after.identity, role)
        assert restored.read_bytes() == getattr(before.identity, role).read_bytes()
        assert restored.stat().st_mode & 0o077 == 0
    assert after.identity.ca.with_suffix(".crl").exists()


def test_what_root_makes_is_the_services_and_nobody_elses(path: Path, tmp_path: Path) -> None:
    """The state directory is the service's, as packages make it; the configuration's is root's, who lets it be read."""
    if os.geteuid():
        pytest.skip("only root works for somebody else")
    new = tmp_path / "new" / "gateway.toml"
    state = new.parent / "state"
    state.mkdir(mode=0o700, parents=True)
    os.chown(state, 65_534, 65_534)
    made(taken(path), new)
    inside = list(state.rglob("*"))
    assert state / "continues.json" in inside
    for each in inside:
        assert (each.stat().st_uid, each.stat().st_gid) == (65_534, 65_534), each
        assert each.stat().st_mode & 0o077 == 0, each
    assert stat.S_IMODE(new.stat().st_mode) == 0o644


def test_directories_that_it_makes_are_the_owners_alone(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new" / "gateway.toml"
    made(taken(path), new)
    for each in (new.parent / "state", new.parent / "state" / "identity"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700


def test_only_the_operators_key_opens_it_and_nothing_of_it_can_be_read_or_changed(path: Path) -> None:
    backup = taken(path)
    data = seal(backup, KEY.recipient)
    other, _ = new_recipient_key()
    with pytest.raises(IdentityError, match="is sealed to the key"):
        unseal(data, other)
    for content in backup.files.values():
        assert content[:40] not in data
    for at in range(0, len(data), len(data) // 50):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises((IdentityError, ConfigError)):
            unseal(bytes(changed), KEY)
    with pytest.raises(ConfigError, match="not a backup"):
        unseal(b"", KEY)


@pytest.mark.parametrize("name", ["../../etc/passwd", "state/outbox", "bluetooth/../x", "identity/other", "config/x"])
def test_a_backup_that_names_other_files_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match="a file that no backup has"):
        unseal(seal(Backup("gw-001", 0, "1", {name: b""}), KEY.recipient), KEY)


def test_a_later_version_is_told(path: Path) -> None:
    version, *rest = cbor.decode(seal(taken(path), KEY.recipient))
    with pytest.raises(ConfigError, match="later version"):
        unseal(cbor.encode([version + 1, *rest]), KEY)


def test_nothing_of_the_outbox_and_no_place_in_a_chain_is_in_it(path: Path) -> None:
    outbox = path.parent / "state" / "outbox"
    outbox.mkdir()
    (outbox / "1.seg").write_bytes(b"\x00a sealed bundle\x00")
    assert not any(b"\x00a sealed bundle" in content for content in taken(path).files.values())
    assert {name for name in taken(path).files if name.startswith("state/")} == {"state/devices.json"}


def test_keys_that_are_not_in_files_stay_where_they_are(path: Path, tmp_path: Path) -> None:
    config = load(path, GatewayConfig)
    sealed = config.model_copy(update={"identity": config.identity.model_copy(update={"keys": "credential"})})
    backup = gather(path, sealed, now_ms=0, bluetooth=Path("/nowhere"))
    assert "identity/tls_key" not in backup.files
    assert not made(backup, tmp_path / "new" / "gateway.toml").keys


def test_bonds_of_bluez_come_back_with_the_adapter_that_they_are_bound_to(path: Path, tmp_path: Path) -> None:
    old = bluez(tmp_path / "old-bluez", ADAPTER, WEARABLE, "AA:00:00:00:00:99")
    backup = taken(path, old)
    assert backup.bonds() == 1, "of the inventory's wearables alone"
    moved = tmp_path / "moved-bluez"
    (moved / ADAPTER).mkdir(parents=True)
    new = tmp_path / "new" / "gateway.toml"
    assert made(backup, new, moved).bonded
    assert (moved / ADAPTER / WEARABLE / "info").read_bytes() == (old / ADAPTER / WEARABLE / "info").read_bytes()
    assert json.loads((new.parent / "state" / "devices.json").read_text()) == DEVICES


def test_with_another_adapter_each_wearable_waits_to_be_paired_and_keeps_its_stream(path: Path, tmp_path: Path) -> None:
    backup = taken(path, bluez(tmp_path / "old-bluez", ADAPTER, WEARABLE))
    other = tmp_path / "other-bluez"
    (other / "DC:A6:32:00:00:02").mkdir(parents=True)
    new = tmp_path / "new" / "gateway.toml"
    assert not made(backup, new, other).bonded
    [device] = json.loads((new.parent / "state" / "devices.json").read_text())["devices"]
    assert (device["bond"], device["stream"]) == ("none", "0a" * 16)
    assert not (other / ADAPTER).exists()


@pytest.mark.parametrize("in_the_way", ["state/outbox/1.seg", "state/audit.jsonl", "state/identity/sign.key"])
def test_what_is_there_is_not_overwritten_and_nothing_is_written_beside_it(
    path: Path, tmp_path: Path, in_the_way: str
) -> None:
    backup = taken(path)
    new = tmp_path / "new"
    (new / in_the_way).parent.mkdir(parents=True)
    (new / in_the_way).write_bytes(b"another box's")
    with pytest.raises(ConfigError, match=r"has run here|is there, and another one"):
        made(backup, new / "gateway.toml")
    assert [each.relative_to(new) for each in new.rglob("*") if each.is_file()] == [Path(in_the_way)]


def test_a_configuration_that_is_there_stays_if_it_is_the_same_gateways(path: Path, tmp_path: Path) -> None:
    backup = taken(path)
    new = tmp_path / "new" / "gateway.toml"
    new.parent.mkdir()
    text = path.read_text().replace("# window = 64", "window = 32  #")
    new.write_text(text)
    made(backup, new)
    assert new.read_text() == text
    other = tmp_path / "other" / "gateway.toml"
    other.parent.mkdir()
    other.write_text(text.replace('id = "gw-001"', 'id = "gw-002"'))
    with pytest.raises(ConfigError, match="is of gw-002, and the backup of gw-001"):
        made(backup, other)


def test_the_history_goes_on_where_the_receiver_says(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new" / "gateway.toml"
    made(taken(path), new, after={Lane.DATA: LAST, Lane.URGENT: Link(b"u" * 16, 3, b"g" * 32)})
    told = continuation.load(new.parent / "state")
    assert told is not None
    assert told.after == {Lane.DATA: LAST, Lane.URGENT: Link(b"u" * 16, 3, b"g" * 32)}
    assert told.backup_ms == 1_795_500_000_000
    assert continuation.load(path.parent / "state") is None, "the old box was not restored"


def test_a_continuation_that_was_damaged_is_told(tmp_path: Path) -> None:
    Continuation.make(0, {Lane.DATA: LAST}).write(tmp_path)
    (tmp_path / continuation.FILE).write_text('{"backup_ms": 0, "data": "somewhere"}')
    with pytest.raises(ConfigError, match=r"continues\.json: is damaged"):
        continuation.load(tmp_path)
    with pytest.raises(ConfigError, match="CHAIN:NO:HASH"):
        continuation.parse_link("zz:1:00")


def test_a_disk_that_refuses_is_told(path: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("a file where a directory should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        made(taken(path), tmp_path / "new" / "gateway.toml")
    assert (tmp_path / "new").is_file()
