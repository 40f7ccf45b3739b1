"""The list of wearables survives what a box goes through, and names what a person got wrong in it."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.ble.inventory import Device, Identity, Inventory, UserSlot
from gateway.ble.pairing import Security
from gateway.errors import ConfigError

ADDRESS = "F0:00:00:00:01:01"
CGM = {"address": ADDRESS, "profile": "cgm", "stream": "0a" * 16, "bond": "none"}

KNOWN = Device(
    ADDRESS,
    "cgm",
    b"\x0a" * 16,
    since_ms=1_760_000_000_000,
    users=(UserSlot(1, b"\x0b" * 16, 1_750_000_000_000),),
    users_seen=(1, 3),
    bond=Security.AUTHENTICATED,
    name="Ward 3, blue",
    identity=Identity("Maker", "Model", "Serial", "1.0", "0123456789abcdef"),
    quarantine="serial-changed",
    last_seen_ms=1_760_000_000_001,
    rssi_dbm=-60,
    battery_pct=80,
)


def write(path: Path, *devices: dict[str, Any], schema: int = 3) -> Path:
    path.write_text(json.dumps({"schema": schema, "devices": devices}))
    return path


def test_reads_what_it_needs_of_each_wearable(tmp_path: Path) -> None:
    inventory = Inventory.load(write(tmp_path / "devices.json", CGM))
    assert inventory.devices == (Device(ADDRESS, "cgm", b"\x0a" * 16),)


def test_a_gateway_without_a_file_has_no_wearables(tmp_path: Path) -> None:
    assert Inventory.load(tmp_path / "devices.json").devices == ()


def test_everything_known_of_a_wearable_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    Inventory.load(path).put(KNOWN)
    assert Inventory.load(path).devices == (KNOWN,)
    assert [file.name for file in tmp_path.iterdir()] == ["devices.json"]


def test_what_was_merely_seen_is_durable_once_saved(tmp_path: Path) -> None:
    path = write(tmp_path / "devices.json", CGM)
    inventory = Inventory.load(path)
    inventory.seen(replace(inventory.get(ADDRESS), rssi_dbm=-70))
    assert Inventory.load(path).get(ADDRESS).rssi_dbm is None
    inventory.save()
    assert Inventory.load(path).get(ADDRESS).rssi_dbm == -70


def test_a_disk_that_refuses_leaves_things_as_they_were(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    inventory = Inventory.load(write(directory / "devices.json", CGM))
    (directory / "devices.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        inventory.put(KNOWN)
    assert inventory.get(ADDRESS).bond is Security.NONE


@pytest.mark.parametrize(("paired", "bond"), [(True, Security.AUTHENTICATED), (False, Security.NONE)])
def test_takes_over_the_first_schema(tmp_path: Path, *, paired: bool, bond: Security) -> None:
    old = {"address": ADDRESS, "profile": "cgm", "stream": "0a" * 16, "paired": paired}
    path = write(tmp_path / "devices.json", old, schema=1)
    inventory = Inventory.load(path)
    assert inventory.devices == (Device(ADDRESS, "cgm", b"\x0a" * 16, bond=bond),)
    inventory.put(inventory.get(ADDRESS))
    assert json.loads(path.read_text())["schema"] == 3
    assert Inventory.load(path).devices == inventory.devices


def test_takes_over_the_second_schema_whose_slots_had_the_devices_time(tmp_path: Path) -> None:
    old = CGM | {"since_ms": 1_760_000_000_000, "users": [[1, "0b" * 16], [2, "0c" * 16]]}
    inventory = Inventory.load(write(tmp_path / "devices.json", old, CGM | {"address": "F0:00:00:00:01:02"}, schema=2))
    shared, other = inventory.devices
    assert (shared.stream, shared.since_ms) == (b"\x0a" * 16, 1_760_000_000_000)
    assert shared.users == tuple(UserSlot(n, bytes([10 + n]) * 16, 1_760_000_000_000) for n in (1, 2))
    assert (other.users, other.since_ms) == ((), 0)


def test_only_the_owner_can_read_which_wearable_belongs_to_which_stream(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    Inventory.load(path).put(KNOWN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"address": "f0:00:00:00:01:01"}, "address"),
        ({"profile": "toaster"}, "profile"),
        ({"stream": "0a"}, "stream"),
        ({"bond": "strong"}, "bond"),
        ({"bond": 7}, "bond"),
        ({"users": [[1, "0b" * 16]]}, "users"),
        ({"users": [{"user": 256, "stream": "0b" * 16, "since_ms": 0}]}, "users"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_names_the_entry_that_is_wrong(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = write(tmp_path / "devices.json", CGM | change)
    with pytest.raises(ConfigError, match=rf"devices\.json: devices\.0\.{named}"):
        Inventory.load(path)


def test_refuses_a_first_schema_entry_that_says_nothing_of_pairing(tmp_path: Path) -> None:
    old = {"address": ADDRESS, "profile": "cgm", "stream": "0a" * 16, "paired": None}
    with pytest.raises(ConfigError, match=r"devices\.0\.paired"):
        Inventory.load(write(tmp_path / "devices.json", old, schema=1))


def test_refuses_a_schema_from_the_future(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="schema"):
        Inventory.load(write(tmp_path / "devices.json", CGM, schema=4))


def test_refuses_one_address_for_two_entries(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        Inventory.load(write(tmp_path / "devices.json", CGM, CGM))


def test_refuses_one_user_for_two_people(tmp_path: Path) -> None:
    slots = [{"user": 1, "stream": stream * 16, "since_ms": 0} for stream in ("0b", "0c")]
    with pytest.raises(ConfigError, match="user appears twice"):
        Inventory.load(write(tmp_path / "devices.json", CGM | {"users": slots}))


@pytest.mark.parametrize("users", [[7], 7])
def test_refuses_a_second_schema_entry_whose_users_are_none(tmp_path: Path, users: object) -> None:
    with pytest.raises(ConfigError, match=r"devices\.0\.users"):
        Inventory.load(write(tmp_path / "devices.json", CGM | {"users": users}, schema=2))


@pytest.mark.parametrize("content", [b"\xff{", b"[]", b"3", b'{"schema": 1, "devices": [7]}'])
def test_refuses_what_is_no_list_of_wearables(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "devices.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"devices\.json"):
        Inventory.load(tmp_path / "devices.json")
