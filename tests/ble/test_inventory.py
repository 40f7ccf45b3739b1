"""The list of wearables survives what a box goes through, and names what a person got wrong in it."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.ble.inventory import Device, Inventory
from gateway.errors import ConfigError

CGM = {"address": "F0:00:00:00:01:01", "profile": "cgm", "stream": "0a" * 16, "paired": False}


def write(path: Path, *devices: dict[str, Any], schema: int = 1) -> Path:
    path.write_text(json.dumps({"schema": schema, "devices": devices}))
    return path


def test_reads_what_it_needs_of_each_wearable(tmp_path: Path) -> None:
    inventory = Inventory.load(write(tmp_path / "devices.json", CGM))
    assert inventory.devices == (Device("F0:00:00:00:01:01", "cgm", b"\x0a" * 16, paired=False),)


def test_a_gateway_without_a_file_has_no_wearables(tmp_path: Path) -> None:
    assert Inventory.load(tmp_path / "devices.json").devices == ()


def test_a_pairing_is_remembered(tmp_path: Path) -> None:
    path = write(tmp_path / "devices.json", CGM)
    Inventory.load(path).mark_paired("F0:00:00:00:01:01")
    assert Inventory.load(path).get("F0:00:00:00:01:01").paired
    assert [file.name for file in tmp_path.iterdir()] == ["devices.json"]


def test_only_the_owner_can_read_which_wearable_belongs_to_which_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "devices.json", CGM)
    Inventory.load(path).mark_paired("F0:00:00:00:01:01")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"address": "f0:00:00:00:01:01"}, "address"),
        ({"profile": "toaster"}, "profile"),
        ({"stream": "0a"}, "stream"),
        ({"paired": None}, "paired"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_names_the_entry_that_is_wrong(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = write(tmp_path / "devices.json", CGM | change)
    with pytest.raises(ConfigError, match=rf"devices\.json: devices\.0\.{named}"):
        Inventory.load(path)


def test_refuses_a_schema_from_the_future(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="schema"):
        Inventory.load(write(tmp_path / "devices.json", CGM, schema=2))


def test_refuses_one_address_for_two_entries(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        Inventory.load(write(tmp_path / "devices.json", CGM, CGM))


def test_refuses_what_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "devices.json").write_bytes(b"\xff{")
    with pytest.raises(ConfigError, match=r"devices\.json"):
        Inventory.load(tmp_path / "devices.json")
