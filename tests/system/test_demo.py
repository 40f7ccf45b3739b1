"""The demo: the whole path with an outage and a SIGKILL; its verdict passes, and it fails when something is lost."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gateway.lab.brokers import EmbeddedBroker
from gateway.lab.cloud import Cloud
from gateway.lab.demo import Demo
from gateway.lab.devices import GLS_ADDRESS
from gateway.lab.rig import Rig
from gateway.lab.site import Site, free_port

KEYS = {
    *("emitted", "captured", "stored", "explained", "in_air", "lost_after_fsync", "lost_from_stored_records"),
    *("backfilled", "duplicates", "unverified", "kills", "outages"),
}


def test_nothing_is_lost_and_the_last_line_is_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.lab.demo", "--duration", "15", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert set(verdict) == KEYS
    assert verdict["emitted"] == verdict["stored"] + verdict["explained"] + verdict["in_air"]
    assert (verdict["kills"], verdict["outages"]) == (1, 1)
    assert verdict["backfilled"] > 30
    for never in ("lost_after_fsync", "lost_from_stored_records", "duplicates", "unverified"):
        assert verdict[never] == 0, verdict
    assert "Nothing was lost." in done.stdout
    assert " backfilled" in done.stdout
    meter = [row for row in Cloud(tmp_path / ".demo" / "receiver-state").rows() if row.device == GLS_ADDRESS]
    assert [row.backfilled for row in meter[:6]] == [True] * 6, "what it had stored came in at the first connect"
    assert not meter[-1].backfilled


class CardThatForgets(Rig):
    """Wipes the outbox of a killed gateway before it starts again."""

    async def start_gateway(self) -> None:
        shutil.rmtree(self.site.outbox, ignore_errors=True)
        await super().start_gateway()


async def test_a_card_that_forgets_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = Site(Path("site"), broker_port=free_port(), uplink_port=free_port())
    console = Console(file=io.StringIO())
    verdict = await Demo(CardThatForgets(site, EmbeddedBroker(site)), console, settle_s=1).run(15)
    assert not verdict.passed
    assert verdict.lost_after_fsync > 0


def test_a_duration_too_short_for_an_outage_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.lab.demo", "--duration", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=30)
    assert done.returncode == 1
    assert "DURATION: 3 s is too short" in done.stderr
