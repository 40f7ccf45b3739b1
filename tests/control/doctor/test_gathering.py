"""What is gathered from files and from Linux."""

import os
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load
from gateway.control.doctor import hardware, papers
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import write_configurations


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_dev_pki(tmp_path, ["gw-001"])
    path, _ = write_configurations(tmp_path, "gw-001")
    state = tmp_path / "gateway-state"
    state.mkdir(mode=0o700)
    path.chmod(0o644)
    return path


@pytest.fixture
def config(path: Path) -> GatewayConfig:
    return load(path, GatewayConfig)


def wrong(path: Path, config: GatewayConfig) -> dict[str, tuple[str, str]]:
    return {Path(each.path).name: (each.wrong, each.fix) for each in papers.files(path, config) if each.wrong}


def test_files_as_they_should_be(path: Path, config: GatewayConfig) -> None:
    assert wrong(path, config) == {}


def test_files_that_others_may_use_with_the_command_that_mends_them(path: Path, config: GatewayConfig) -> None:
    config.identity.signing_key.chmod(0o640)
    config.gateway.state_dir.chmod(0o755)
    path.chmod(0o666)
    found = wrong(path, config)
    assert found == {
        "sign.key": ("others may use this key", f"chmod 600 {config.identity.signing_key}"),
        "gateway-state": ("others may look into it", f"chmod 700 {config.gateway.state_dir}"),
        "gateway.toml": ("others may change it", f"chmod go-w {path}"),
    }
    for _, mend in found.values():
        assert os.system(mend) == 0  # noqa: S605 - a person would type it
    assert wrong(path, config) == {}


def test_a_private_key_that_nothing_uses(path: Path, config: GatewayConfig) -> None:
    left = config.gateway.state_dir / "identity" / "old.key"
    left.parent.mkdir()
    left.write_bytes(config.identity.tls_key.read_bytes())
    assert wrong(path, config) == {"old.key": ("a private key that nothing uses", f"shred -u {left}")}


def test_a_key_in_plain_text_beside_the_credential(path: Path, config: GatewayConfig) -> None:
    sealed = config.model_copy(update={"identity": config.identity.model_copy(update={"keys": "credential"})})
    left = config.gateway.state_dir / "identity" / "tls.key"
    left.parent.mkdir()
    left.write_bytes(config.identity.tls_key.read_bytes())
    assert wrong(path, sealed)["tls.key"][1] == f"shred -u {left}"


def test_certificates_of_somebody_else_are_told(config: GatewayConfig) -> None:
    other = config.model_copy(update={"gateway": config.gateway.model_copy(update={"id": "gw-2"})})
    facts = {each.check: each for each in papers.certificates(other)}
    assert facts["TLS certificate"].until is None
    assert "not to gw-2" in facts["TLS certificate"].error
    assert facts["site's CA"].until is not None


def test_the_disk_counts_what_the_outbox_takes(config: GatewayConfig) -> None:
    outbox = config.gateway.state_dir / "outbox"
    outbox.mkdir()
    (outbox / "1.seg").write_bytes(bytes(1 << 20))
    facts = hardware.disk_facts(config)
    assert facts.outbox_bytes >= 1 << 20
    assert facts.free_bytes > 0
    assert not facts.read_only


def test_a_card_that_tells_its_wear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = tmp_path.stat().st_dev
    disk = tmp_path / "block" / "mmcblk0"
    partition = disk / "mmcblk0p2"
    partition.mkdir(parents=True)
    (partition / "partition").write_text("2\n")
    (disk / "device").mkdir()
    (disk / "device" / "life_time").write_text("0x02 0x05\n")
    numbers = tmp_path / "dev"
    numbers.mkdir()
    (numbers / f"{os.major(number)}:{os.minor(number)}").symlink_to(partition)
    monkeypatch.setattr(hardware, "_BLOCK", numbers)
    facts = hardware.card_facts(tmp_path, None)
    assert (facts.device, facts.life_tenths) == ("mmcblk0", 5)
    (disk / "device" / "life_time").unlink()
    assert hardware.card_facts(tmp_path, 3.5) == hardware.CardFacts("mmcblk0", None, 3.5)


async def test_an_adapter_that_rfkill_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_BLUETOOTH", tmp_path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    switch = tmp_path / "hci7" / "rfkill3"
    switch.mkdir(parents=True)
    (switch / "soft").write_text("1\n")
    (switch / "hard").write_text("0\n")
    facts = await hardware.radio_facts("hci7")
    assert (facts.present, facts.blocked, facts.powered) == (True, ("soft",), None)
    assert facts.refusal
    assert not (await hardware.radio_facts("hci8")).present
