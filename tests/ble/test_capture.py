"""A capture says what a wearable shows and says, and a replay of it is collected as the wearable was."""

import asyncio
import json
from pathlib import Path

import pytest
from bleak.exc import BleakError

from gateway.ble.capture import Capture
from gateway.errors import ConfigError, LinkError
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS
from gateway.lab.replay import Captured, Replay
from gateway.model import Extra, Reading

from .conftest import Ward, until


async def captured(ward: Ward, address: str, *, values: bool = True) -> list[dict]:
    """What a capture of a wearable that was paired says; it measures once meanwhile."""
    first = await ward.gateway()
    await until(lambda: address in first.cursors)
    await ward.stop(first)
    radio = await ward.radio()
    lines: list[dict] = []
    capture = Capture(values=values, tell=lambda line: lines.append(dict(line)))
    client = await radio.connect(address, timeout_s=30.0, on_disconnect=capture.end)
    task = asyncio.create_task(capture.run(client, seconds=0.5))
    await until(lambda: any(line.get("notify") == "2A52" and lines.index(line) for line in lines))
    await measure(ward, address)
    await task
    await client.disconnect()
    await radio.close()
    return lines


async def measure(ward: Ward, address: str) -> None:
    await (ward.cgm.measure(31) if address == CGM_ADDRESS else ward.meter.measure())


def of(lines: list[dict], kind: str, uuid: str) -> list[dict]:
    return [line for line in lines if line.get(kind) == uuid]


async def test_it_tells_services_what_can_be_read_and_every_stored_record(ward: Ward) -> None:
    await ward.assign("cgm")
    lines = await captured(ward, CGM_ADDRESS)
    assert lines[0] == {"capture": 1, "values": True}
    [service] = of(lines, "service", "181F")
    properties = {each["uuid"]: each["properties"] for each in service["characteristics"]}
    assert properties["2AA7"] == ["notify"]
    assert set(properties["2A52"]) == {"write", "indicate"}
    [feature] = of(lines, "read", "2AA8")
    assert feature["value"] == "00100059" + feature["value"][8:]
    assert [line["value"] for line in of(lines, "write", "2A52")] == ["0401", "0101", "0401"]
    assert len(of(lines, "notify", "2AA7")) in {32, 33}  # the one made meanwhile comes live, and perhaps stored too
    assert [line["t_ms"] for line in lines[1:]] == sorted(line["t_ms"] for line in lines[1:])


async def test_without_values_there_are_lengths_and_no_octet_that_was_heard(ward: Ward) -> None:
    await ward.assign("cgm")
    lines = await captured(ward, CGM_ADDRESS, values=False)
    assert all("value" not in line for line in lines if "write" not in line)
    assert {line["length"] for line in of(lines, "notify", "2AA7")} == {8}
    assert CGM_ADDRESS not in json.dumps(lines)


async def test_a_link_that_ends_ends_it(ward: Ward) -> None:
    await ward.assign("cgm")
    first = await ward.gateway()
    await until(lambda: CGM_ADDRESS in first.cursors)
    await ward.stop(first)
    radio = await ward.radio()
    capture = Capture(values=True, tell=lambda _line: None)
    client = await radio.connect(CGM_ADDRESS, timeout_s=30.0, on_disconnect=capture.end)
    task = asyncio.create_task(capture.run(client, seconds=60))
    await until(lambda: bool(ward.cgm.subscribers(ward.cgm.measurement)))
    await ward.cgm.drop()
    with pytest.raises((LinkError, BleakError)):
        await task
    await radio.close()


def told(readings: list[Reading]) -> list[tuple]:
    """All but what the time of the transfer changes."""
    extras = [dict(reading.extras) for reading in readings]
    return [
        (e[Extra.SEQUENCE], r.metric, r.mantissa, r.exponent, e[Extra.SESSION], e.get(Extra.SAMPLE_TYPE))
        for r, e in zip(readings, extras, strict=True)
    ]


@pytest.mark.parametrize(("profile", "address"), [("cgm", CGM_ADDRESS), ("gls", GLS_ADDRESS)])
async def test_a_replay_yields_the_same_readings(ward: Ward, tmp_path: Path, profile: str, address: str) -> None:
    await ward.assign(profile)
    for _ in range(5):
        await ward.meter.measure()
    lines = await captured(ward, address)
    path = tmp_path / "capture.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ward.cursors = {}
    first = await ward.gateway()
    await until(lambda: address in first.cursors)
    await ward.stop(first)

    await {"cgm": ward.cgm, "gls": ward.meter}[profile].leave()
    replay = Replay(ward.air.link, Captured.load(path), address=address, ledger=ward.ledger)
    await replay.start()
    ward.bonds.unlink()
    ward.cursors = {}
    ward.devices.unlink()
    await ward.assign(profile, wearable=replay)
    second = await ward.gateway()
    await until(lambda: address in second.cursors)
    await replay.tell()
    await until(lambda: len(second.taken) == len(first.taken))
    assert sorted(told(second.taken)) == sorted(told(first.taken))
    await replay.stop()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"capture": 1, "values": false}', "no values"),
        ('{"capture": 2, "values": true}', "another version"),
        ('{"capture": 1, "values": true}', "no services to show"),
        ('{"t_ms": 1, "notify": "2AA7", "length": 8}', "line 1"),
        ("hello", "cannot be read"),
    ],
)
def test_what_cannot_be_replayed_is_said(tmp_path: Path, line: str, error: str) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ConfigError, match=error):
        Captured.load(path)
