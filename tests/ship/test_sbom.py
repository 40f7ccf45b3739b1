"""The bill of materials: exactly what was laid out, right by CycloneDX's own schema, the same every time."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ship.packages import PACKAGES
from ship.sbom import document

GATEWAY = PACKAGES[0]
METADATA = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
{more}
"""


def put(site: Path, name: str, version: str, *more: str, bill: dict[str, Any] | None = None) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    (folder / "sboms").mkdir(parents=True)
    (folder / "METADATA").write_text(METADATA.format(name=name, version=version, more="\n".join(more)))
    record = [f"{folder.name}/METADATA,,"]
    if bill is not None:
        (folder / "sboms/rust.cdx.json").write_text(json.dumps(bill))
        record.append(f"{folder.name}/sboms/rust.cdx.json,,")
    (folder / "RECORD").write_text("\n".join(record))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    put(tmp_path, "iomt-gateway", "0.1.0", "Requires-Dist: Sealing", 'Requires-Dist: absent; extra == "lab"')
    crate = {"type": "library", "name": "ring", "version": "0.17", "purl": "pkg:cargo/ring@0.17?download_url=file://x"}
    itself = {"type": "library", "name": "Sealing", "version": "2.0"}
    bill = {"bomFormat": "CycloneDX", "components": [itself, crate | {"bom-ref": "path+file:///builder/ring"}]}
    put(tmp_path, "Sealing", "2.0", "License-Expression: MIT OR Apache-2.0", "Requires-Dist: plain", bill=bill)
    put(tmp_path, "plain", "1.0", "Classifier: License :: OSI Approved :: BSD License")
    put(tmp_path, "worded", "3.0", "License: MIT")
    return tmp_path


def bill(site: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(document(GATEWAY, "0.1.0-1", "arm64", site, made_at=0))
    return read


def test_it_lists_what_lies_there_with_its_licence(site: Path) -> None:
    found = {each["name"]: each["licenses"] for each in bill(site)["components"]}
    assert found == {
        "plain": [{"license": {"name": "BSD License"}}],
        "sealing": [{"expression": "MIT OR Apache-2.0"}],
        "worded": [{"license": {"name": "MIT"}}],
    }


def test_what_is_compiled_in_is_nested_and_names_no_builder(site: Path) -> None:
    (sealing,) = (each for each in bill(site)["components"] if each["name"] == "sealing")
    assert [(each["name"], each["purl"]) for each in sealing["components"]] == [("ring", "pkg:cargo/ring@0.17")]
    assert "builder" not in json.dumps(bill(site))


def test_it_says_what_needs_what(site: Path) -> None:
    needs = {each["ref"]: each["dependsOn"] for each in bill(site)["dependencies"]}
    assert needs["pkg:deb/iomt-gateway@0.1.0-1?arch=arm64"] == ["pkg:pypi/sealing@2.0"]
    assert needs["pkg:pypi/sealing@2.0"] == ["pkg:pypi/plain@1.0"]


def test_it_is_right_by_the_schema_and_always_the_same(site: Path) -> None:
    text = document(GATEWAY, "0.1.0-1", "arm64", site, made_at=0)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == document(GATEWAY, "0.1.0-1", "arm64", site, made_at=0)
