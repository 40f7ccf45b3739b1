"""Which packages have known vulnerabilities, by a given snapshot of OSV's database."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.observe.advisories import audit, installed, pinned

ROOT = Path(__file__).parents[2]


def advisory(name: str = "Some.Package", **changes: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "1.4.2"}]
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {
        "id": "PYSEC-2026-1",
        "modified": "2026-11-01T00:00:00Z",
        "summary": "reads too much",
        "affected": [affected],
        "severity": [{"type": "CVSS_V3", "score": "9.8"}],
    } | changes


def snapshot(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, entry in enumerate(entries):
            archive.writestr(f"{number}.json", json.dumps(entry))
    return path


def ranges(*events: dict[str, str]) -> list[dict[str, Any]]:
    package = {"ecosystem": "PyPI", "name": "some-package"}
    return [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}]


def test_a_package_that_an_advisory_concerns_is_named_with_what_mends_it(tmp_path: Path) -> None:
    audited = audit({"some-package": "1.4.1", "other": "1.0"}, snapshot(tmp_path, advisory()))
    [found] = audited.found
    assert (found.name, found.version, found.advisory) == ("some-package", "1.4.1", "PYSEC-2026-1")
    assert (found.summary, found.fixed) == ("reads too much", "1.4.2")
    assert (audited.advisories, audited.newest.year) == (1, 2026)


@pytest.mark.parametrize(
    ("version", "events", "concerned"),
    [
        ("1.4.2", [{"introduced": "0"}, {"fixed": "1.4.2"}], False),
        ("1.4.2rc1", [{"introduced": "0"}, {"fixed": "1.4.2"}], True),
        ("1.10", [{"introduced": "1.9"}, {"fixed": "1.11"}], True),
        ("1.8", [{"introduced": "1.9"}, {"fixed": "1.11"}], False),
        ("2.5", [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "3.0"}], True),
        ("1.5", [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "3.0"}], False),
        ("1.4", [{"introduced": "0"}, {"last_affected": "1.4"}], True),
        ("1.5", [{"introduced": "0"}, {"last_affected": "1.4"}], False),
        ("99", [{"introduced": "0"}], True),
        ("1.0", [{"introduced": "0"}, {"fixed": "not a version"}], True),
    ],
)
def test_ranges_are_judged_as_osv_says(
    tmp_path: Path, version: str, events: list[dict[str, str]], *, concerned: bool
) -> None:
    audited = audit({"some-package": version}, snapshot(tmp_path, advisory(affected=ranges(*events))))
    assert bool(audited.found) is concerned


def test_versions_that_are_listed_are_concerned_without_a_range(tmp_path: Path) -> None:
    affected = [{"package": {"ecosystem": "PyPI", "name": "some_package"}, "versions": ["1.4.1"]}]
    path = snapshot(tmp_path, advisory(affected=affected))
    assert audit({"some-package": "1.4.1"}, path).found
    assert not audit({"some-package": "1.4.3"}, path).found


@pytest.mark.parametrize(
    "entry",
    [
        advisory(withdrawn="2026-11-02T00:00:00Z"),
        advisory(affected=[{"package": {"ecosystem": "npm", "name": "some-package"}, "versions": ["1.4.1"]}]),
        advisory(affected=[{"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}]),
    ],
    ids=["withdrawn", "another ecosystem", "no package"],
)
def test_what_concerns_nobody_here_is_not_told(tmp_path: Path, entry: dict[str, Any]) -> None:
    audited = audit({"some-package": "1.4.1"}, snapshot(tmp_path, entry, advisory("another")))
    assert audited.found == ()


def test_a_directory_of_advisories_does_too(tmp_path: Path) -> None:
    (tmp_path / "PYSEC-2026-1.json").write_text(json.dumps(advisory()))
    assert audit({"some-package": "1.0"}, tmp_path).found


@pytest.mark.parametrize("content", [b"", b"not a zip", b"{}"])
def test_what_is_no_snapshot_is_an_error_and_never_clean(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "all.zip").write_bytes(content)
    with pytest.raises(ConfigError, match=r"all\.zip"):
        audit({}, tmp_path / "all.zip")
    with pytest.raises(ConfigError, match="has no advisory"):
        audit({}, snapshot(tmp_path))
    npm = advisory(affected=[{"package": {"ecosystem": "npm", "name": "some-package"}, "versions": ["1.4.1"]}])
    with pytest.raises(ConfigError, match="has no advisory of Python packages"):
        audit({}, snapshot(tmp_path, npm))
    with pytest.raises(ConfigError, match="cannot be read"):
        audit({}, tmp_path / "nowhere")


def test_a_lock_names_what_is_pinned_and_this_process_what_is_installed() -> None:
    lock = pinned((ROOT / "requirements" / "base.txt").read_text())
    assert lock.keys() <= installed().keys()
    assert lock["typing-extensions"] == installed()["typing-extensions"]
