"""`iomt-gateway prove` as a site runs it: it passes, fails when something is lost, and knows when it proves nothing."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.lab import prove
from gateway.lab.brokers import EmbeddedBroker
from gateway.lab.faults import FAULTS
from gateway.lab.prove import Order, Run, rig_for
from gateway.lab.report import check
from gateway.lab.rig import Rig

KEYS = {
    *("verdict", "emitted", "stored", "lost", "in_air", "explained", "duplicates", "unverified", "seed", "faults"),
}
OFFLINE_KILL = 2
"""A seed with which the gateway is killed in the middle of an outage."""
COMMAND = (sys.executable, "-m", "gateway.cli.gateway", "prove")


def no_progress(_: str) -> None:
    pass


def test_a_short_run_passes_and_ends_with_json_and_a_signed_report(tmp_path: Path) -> None:
    faults = ("kill-gateway", "kill-receiver", "cut", "torn-tail")
    arguments = ("--seconds", "27", "--wearables", "3", "--seed", "3", "--faults", ",".join(faults), "--json")
    done = subprocess.run(
        (*COMMAND, *arguments), capture_output=True, text=True, check=False, cwd=tmp_path, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) == KEYS
    assert (summary["verdict"], summary["seed"]) == ("pass", 3)
    assert summary["emitted"] == summary["stored"] + summary["explained"] + summary["in_air"] + summary["lost"]
    assert summary["stored"] > 100
    assert not any(summary[never] for never in ("lost", "duplicates", "unverified"))
    assert {fault["name"] for fault in summary["faults"] if fault["count"]} == set(faults)
    assert "PASS" in done.stdout
    assert "\x1b" not in done.stdout
    report = check(tmp_path / "prove-report.json", tmp_path / "prove-report.json.crt")
    assert summary.items() <= report.items()


class CardThatForgets(Rig):
    """Wipes the outbox of a killed gateway before it starts again."""

    async def start_gateway(self) -> None:
        shutil.rmtree(self.site.outbox, ignore_errors=True)
        await super().start_gateway()


def order(*faults: str, seconds: float = 9, seed: int = 1) -> Order:
    return Order(seconds=seconds, wearables=3, rate=2.0, seed=seed, faults=faults, settle_s=5)


async def test_a_card_that_forgets_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    asked = order("kill-gateway", seed=OFFLINE_KILL)
    report = await Run(asked, rig_for(asked, Path("site"), CardThatForgets), no_progress).run()
    assert report.word == "fail"
    assert report.lost > 0


async def test_a_flipped_bit_costs_what_a_signed_record_tells_of_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = order("flipped-bits", seconds=15)
    report = await Run(asked, rig_for(asked, Path("site")), no_progress).run()
    assert report.word == "pass"
    assert report.verdict.explained > 0
    assert "the receiver was told damaged" in report.occurrences[0].seen


async def test_a_fault_that_takes_no_effect_makes_the_run_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = order("cut")
    rig = rig_for(asked, Path("site"))
    monkeypatch.setattr(rig.proxy, "cut", lambda: None)
    report = await Run(asked, rig, no_progress).run()
    assert report.word == "invalid"
    assert report.verdict.passed
    assert not report.occurrences[0].took_effect


async def test_ctrl_c_ends_everything_in_order(tmp_path: Path) -> None:
    arguments = ("--seconds", "60", "--faults", "cut,kill-gateway", "--wearables", "3")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout
    async with asyncio.timeout(90):
        while b" ..." not in (line := await process.stdout.readline()):
            assert line
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.05)
        assert await process.wait() == 130
    assert not [process for process in Path("/proc").iterdir() if works_in(process, tmp_path)]


def works_in(process: Path, directory: Path) -> bool:
    try:
        return (process / "cwd").readlink() == directory
    except OSError:
        return False


async def test_without_mosquitto_a_silent_denial_is_seen_and_what_is_impossible_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prove, "best", EmbeddedBroker)
    asked = order("denied-topics", "oversize-refusal")
    report = await Run(asked, rig_for(asked, Path("site")), no_progress).run()
    assert report.word == "pass"
    acknowledged, stored = map(int, re.findall(r"\d+", report.occurrences[0].seen))
    assert acknowledged > stored, "one that the broker took before may be stored meanwhile"
    assert report.skipped == {"oversize-refusal": "mosquitto is not installed; on Debian: apt install mosquitto"}


def test_a_time_too_short_for_every_fault_is_for_those_that_fit_and_the_others_are_listed(tmp_path: Path) -> None:
    asked = order(*FAULTS, seconds=60)
    run, again = (Run(asked, rig_for(asked, tmp_path), no_progress) for _ in range(2))
    assert run.skipped == again.skipped
    untimely = [name for name, why in run.skipped.items() if why.startswith("no time for it in 60 s; --seconds ")]
    assert 3 < len(untimely) < len(FAULTS) - 3
    with pytest.raises(ConfigError, match="too short to do each"):
        Run(replace(asked, seconds=1), rig_for(asked, tmp_path), no_progress)


async def test_what_is_impossible_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "best", EmbeddedBroker)
    asked = order("oversize-refusal")
    with pytest.raises(ConfigError, match="none of these faults can be done here: oversize-refusal: mosquitto is not"):
        Run(asked, rig_for(asked, tmp_path), no_progress)
