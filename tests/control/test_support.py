"""A support bundle of a box that cannot be read in part; what is never in one: tests/system/test_discretion.py."""

import datetime as dt
from pathlib import Path

import pytest

from gateway.control.support import collect
from gateway.lab.pki import make_dev_pki
from gateway.lab.site import write_configurations

NAME, ADDRESS = "Mrs Ottilie Abernathy", "F0:00:00:00:01:01"


@pytest.mark.parametrize(
    ("file", "text"),
    [("gateway.toml", "colour = 1\n"), ("gateway-state/devices.json", f'{{"{ADDRESS}": "{NAME}"')],
)
async def test_what_cannot_be_read_is_told_and_the_rest_is_there(tmp_path: Path, file: str, text: str) -> None:
    make_dev_pki(tmp_path, ["gw-001"])
    path, _ = write_configurations(tmp_path, "gw-001")
    (tmp_path / "gateway-state").mkdir(mode=0o700)
    (tmp_path / file).write_text(text)
    parts = await collect(path, dt.datetime.now(dt.UTC))
    assert Path(file).name in parts["not-there.txt"]
    assert Path(file).name in parts["doctor.json"], "the doctor names it too"
    assert {"about.json", "packages.json", "journal.jsonl"} < parts.keys()
    for each in parts.values():
        assert NAME not in each
        assert ADDRESS not in each
