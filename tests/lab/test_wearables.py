"""The wearables' process: ready when it says so, honest in its ledger, the same for the same seed."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.ble.pairing import Prompt
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS
from gateway.lab.physiology import Glucose, Oximetry
from gateway.lab.radio import VirtualRadio

DEMO_PACE = ("--session-age-s", "3600", "--lag-min", "30", "--minute-s", "0.1", "--meter-interval-s", "0.3")


@asynccontextmanager
async def wearables(directory: Path) -> AsyncIterator[Process]:
    arguments = ("--hci", str(directory / "air" / "hci.sock"), "--ledger", str(directory / "ledger.jsonl"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.lab.wearables", *arguments, "--seed", "7", *DEMO_PACE, stdout=PIPE
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def nobody(_prompt: Prompt) -> int:
    raise AssertionError("nobody pairs here")


async def ready(process: Process) -> dict:
    assert process.stdout
    async with asyncio.timeout(20):
        return json.loads(await process.stdout.readline())


def ledger(directory: Path, device: str) -> list[dict]:
    lines = [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
    return [line for line in lines if line["device"] == device]


async def test_says_ready_once_a_gateway_can_attach_and_measures_without_one(tmp_path: Path) -> None:
    async with wearables(tmp_path) as process:
        assert await ready(process) == {
            "event": "ready",
            "devices": {CGM_ADDRESS: "cgm", PLX_ADDRESS: "plx", GLS_ADDRESS: "gls"},
        }
        radio = VirtualRadio(tmp_path / "air" / "hci.sock", tmp_path / "bonds.json")
        await radio.open(nobody)
        client = await radio.connect(PLX_ADDRESS, timeout_s=5.0, on_disconnect=lambda: None)
        await client.disconnect()
        await radio.close()
        await asyncio.sleep(1.0)
    cgm = ledger(tmp_path, CGM_ADDRESS)
    backlog = [line for line in cgm if line["backlog"]]
    assert [line["sequence"] for line in backlog] == list(range(0, 31, 3))
    assert [line["sequence"] for line in cgm] == list(range(0, 3 * len(cgm), 3))
    assert len(cgm) > len(backlog)
    assert all(line["stored"] and not line["linked"] for line in cgm)
    meter = ledger(tmp_path, GLS_ADDRESS)
    assert [line["sequence"] for line in meter] == list(range(len(meter)))
    assert len(meter) >= 3
    oximeter = ledger(tmp_path, PLX_ADDRESS)
    assert [line["up"] for line in oximeter if "event" in line] == [True, False]
    assert {line["kind"] for line in oximeter if "values" in line} == {"plx"}
    assert not any(line["stored"] or line["linked"] for line in oximeter if "values" in line)


async def test_records_are_dated_when_they_were_measured_and_none_lies_in_the_future(tmp_path: Path) -> None:
    async with wearables(tmp_path) as process:
        await ready(process)
        await asyncio.sleep(0.5)
    lines = ledger(tmp_path, CGM_ADDRESS)
    backlog = [line["sent_ms"] for line in lines if line["backlog"]]
    assert {later - earlier for earlier, later in pairwise(backlog)} == {3 * 60_000}
    for line in lines:
        start_ms = datetime.fromisoformat(line["session"]).timestamp() * 1000
        assert start_ms + 60_000 * line["sequence"] <= line["sent_ms"]


@pytest.mark.parametrize("seed", range(20))
def test_glucose_moves_as_glucose_does(seed: int) -> None:
    body = Glucose(seed)
    values = [body.step(minute) for minute in range(24 * 60)]
    assert all(55 <= value <= 280 for value in values)
    assert max(abs(later - earlier) for earlier, later in pairwise(values)) <= 8
    assert max(values) - min(values) > 40


@pytest.mark.parametrize("seed", range(20))
def test_saturation_and_pulse_stay_those_of_somebody_at_rest(seed: int) -> None:
    body = Oximetry(seed)
    pairs = [body.step() for _ in range(3600)]
    assert all(90 <= saturation <= 100 and 48 <= pulse <= 140 for saturation, pulse in pairs)
    assert len({saturation for saturation, _ in pairs}) > 1
    assert len({pulse for _, pulse in pairs}) > 5


def test_the_same_seed_gives_the_same_series() -> None:
    first, second, other = Glucose(5), Glucose(5), Glucose(6)
    series = [[body.step(minute) for minute in range(60)] for body in (first, second, other)]
    assert series[0] == series[1] != series[2]
