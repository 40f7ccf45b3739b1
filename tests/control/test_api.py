"""The control API of a whole gateway over a virtual radio: pairing, the audit log, events, readings."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.lab.devices import CGM_ADDRESS

from .conftest import Bedside, gateway_with


async def test_a_wearable_is_found_paired_and_assigned_and_every_act_is_in_the_log(bedside: Bedside) -> None:
    status, found = await bedside.call("POST", "/v1/scan", {"seconds": 1})
    assert status == 200
    assert [(each["address"], each["profiles"], each["known"]) for each in found] == [(CGM_ADDRESS, ["cgm"], False)]
    pairing = asyncio.create_task(bedside.call("POST", "/v1/pairing", {"address": CGM_ADDRESS}))
    asked = {"number": None}
    async with asyncio.timeout(20):
        while asked["number"] is None:
            _, asked = await bedside.call("GET", "/v1/pairing")
        while bedside.cgm.wearer.shown is None:  # noqa: ASYNC110 - a display
            await asyncio.sleep(0.01)
        assert (asked["method"], asked["number"]) == ("compare", bedside.cgm.wearer.shown)
        await bedside.call("POST", "/v1/pairing/answer", {"yes": True})
        status, paired = await pairing
    assert (status, paired["known"]["bond"]) == (200, "authenticated")
    status, assigned = await bedside.call("POST", f"/v1/devices/{CGM_ADDRESS}/assign", {"since_ms": 0})
    assert status == 200
    await bedside.call("POST", f"/v1/devices/{CGM_ADDRESS}/rename", {"name": "bed 4"})
    _, known = await bedside.call("GET", f"/v1/devices/{CGM_ADDRESS}")
    assert (known["known"]["stream"], known["known"]["name"]) == (assigned["stream"], "bed 4")
    assert bedside.acts()[:6] == [
        ("pair", "begun"),
        ("pair-answer", "begun"),
        ("pair-answer", "done"),
        ("pair", "done"),
        ("assign", "begun"),
        ("assign", "done"),
    ]
    assert "bed 4" not in (bedside.site.gateway_state / "audit.jsonl").read_text()
    assert (await bedside.call("POST", f"/v1/devices/{CGM_ADDRESS}/unpair"))[0] == 200


async def test_who_leaves_while_pairing_cancels_it(bedside: Bedside) -> None:
    pairing = asyncio.create_task(bedside.call("POST", "/v1/pairing", {"address": CGM_ADDRESS, "profile": "cgm"}))
    async with asyncio.timeout(20):
        while (await bedside.call("GET", "/v1/pairing"))[1]["number"] is None:
            pass
        pairing.cancel()
        while bedside.acts()[-1] != ("pair", "abandoned"):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)
    assert CGM_ADDRESS not in bedside.daemon.inventory


async def test_nothing_is_done_that_cannot_be_logged(bedside: Bedside) -> None:
    (bedside.site.gateway_state / "audit.jsonl").mkdir()
    status, trouble = await bedside.call("POST", f"/v1/devices/{CGM_ADDRESS}/unpair")
    assert (status, trouble["error"]) == (503, "audit")


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/devices/F0:00:00:00:01:01", "GET, DELETE"), ("/v1/scan", "POST"), ("/metrics", "GET")]
)
@pytest.mark.parametrize("method", ["PATCH", "HEAD", "OPTIONS"])
async def test_a_method_that_a_path_does_not_take_is_told_which_it_does(
    bedside: Bedside, method: str, path: str, allowed: str
) -> None:
    reader, writer = await asyncio.open_unix_connection(bedside.socket)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 405")
    assert f"Allow: {allowed}".encode() in head
    assert bool(body) is (method != "HEAD")


async def test_events_are_streamed(bedside: Bedside) -> None:
    reader, writer = await asyncio.open_unix_connection(bedside.socket)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        await reader.readuntil(b"event: status\n")
        bedside.daemon._device_event("adapter-reset")
        assert b"adapter-reset" in await reader.readuntil(b'"adapter-reset"')
    writer.close()


async def test_readings_of_one_wearable_are_streamed_and_who_looks_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with gateway_with(CGM_ADDRESS) as bedside, asyncio.timeout(30):
        reader, writer = await asyncio.open_unix_connection(bedside.socket)
        writer.write(f"GET /v1/devices/{CGM_ADDRESS}/readings HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b": still here\n\n")
        while not bedside.cgm.subscribers(bedside.cgm.measurement):  # noqa: ASYNC110 - a link
            await asyncio.sleep(0.01)
        await bedside.cgm.measure(31)
        seen: list[dict[str, object]] = []
        while not any(each["value"] == bedside.emitted(31) for each in seen):
            await reader.readuntil(b"event: reading\ndata: ")
            seen.append(json.loads(await reader.readline()))
        writer.close()
        assert {(each["device"], each["metric"], each["unit"]) for each in seen} == {(CGM_ADDRESS, "glucose", "mg/dL")}
        while ("look-at-readings", "done") not in bedside.acts():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
