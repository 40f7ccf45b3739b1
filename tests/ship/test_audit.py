"""`make audit`: what is known of the locks, and never "clean" when nothing was looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.observe.advisories import pinned
from ship.packages import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ship.audit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def advisory(folder: Path, name: str, first_mended: str) -> str:
    events = [{"introduced": "0"}, {"fixed": first_mended}]
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    affected = [{"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}]
    entry = {"id": "PYSEC-1", "modified": "2026-11-01T00:00:00Z", "summary": "reads too much", "affected": affected}
    (folder / "PYSEC-1.json").write_text(json.dumps(entry))
    return str(folder)


@pytest.mark.parametrize("arguments", [(), ("nowhere.zip",)])
def test_without_a_snapshot_nothing_was_audited(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout.startswith("not audited: ")
    assert "clean" not in done.stdout


def test_a_vulnerable_package_is_named_for_each_package_that_holds_it(tmp_path: Path) -> None:
    version = pinned((ROOT / "requirements/receiver.txt").read_text())["nats-py"]
    done = run(advisory(tmp_path, "nats-py", "9999"))
    assert done.returncode == 1
    assert f"iomt-receiver: nats-py {version}: PYSEC-1: reads too much (mended in 9999)\n" in done.stdout
    assert "iomt-gateway: 0 known in" in done.stdout


def test_a_snapshot_that_knows_nothing_of_it_says_up_to_when(tmp_path: Path) -> None:
    done = run(advisory(tmp_path, "nats-py", "0.1"))
    assert done.returncode == 0
    assert "iomt-receiver: 0 known in" in done.stdout
    assert "up to 2026-11-01" in done.stdout
