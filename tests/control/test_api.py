"""The control API of a whole gateway over a virtual radio: roles, pairing, the audit log, no request breaks it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ControlSection, GatewayConfig, load
from gateway.control.api import socket_path
from gateway.control.audit import verify
from gateway.control.peers import Person, Role, Roles
from gateway.control.routes import ROUTES
from gateway.errors import ConfigError
from gateway.lab.air import Air
from gateway.lab.devices import CGM_ADDRESS, Cgm, CgmPace
from gateway.lab.peripheral import LedgerWriter
from gateway.lab.radio import VirtualRadio
from gateway.lab.site import Site, build, free_port
from gateway.observe.http import Credentials
from gateway.supervisor import Gateway


@dataclass
class Bedside:
    daemon: Gateway
    cgm: Cgm
    site: Site

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_unix_connection(socket_path(self.site.gateway_state))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        try:
            answer = await reader.read()
        finally:
            writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)

    def acts(self) -> list[tuple[str, str]]:
        return [(entry["act"], entry["outcome"]) for entry, _ in verify(self.site.gateway_state / "audit.jsonl")]


@pytest.fixture
async def bedside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bedside]:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    site = Site(Path(), broker_port=port, uplink_port=port)
    build(site, devices={}, gateway_extra="[outbox]\noffline_tick_ms = 10\n")
    air, ledger = Air(), LedgerWriter(site.ledger)
    cgm = Cgm(air.link, ledger=ledger, seed=1, pace=CgmPace(session_age_s=3600, lag_min=30, interval_min=1))
    await air.serve(site.radio)
    await cgm.start()
    daemon = Gateway(load(site.gateway_config, GatewayConfig))
    task = asyncio.create_task(daemon.run(VirtualRadio(site.radio, site.bonds)))
    async with asyncio.timeout(20):
        while not (daemon.bluetooth and daemon.bluetooth.adapter_up):  # noqa: ASYNC110 - knows no event
            await asyncio.sleep(0.01)
    yield Bedside(daemon, cgm, site)
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    await air.close()
    await cgm.stop()
    ledger.close()


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


async def test_events_are_streamed(bedside: Bedside) -> None:
    reader, writer = await asyncio.open_unix_connection(socket_path(bedside.site.gateway_state))
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        await reader.readuntil(b"event: status\n")
        bedside.daemon._device_event("adapter-reset")
        assert b"adapter-reset" in await reader.readuntil(b'"adapter-reset"')
    writer.close()


async def test_no_request_is_a_server_error(bedside: Bedside) -> None:
    paths = [route.path.replace("{address}", CGM_ADDRESS) for route in ROUTES if not route.streams]
    bodies = st.dictionaries(
        st.sampled_from(["address", "profile", "yes", "number", "name", "user", "since_ms", "x"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.just(CGM_ADDRESS),
    )
    requests: list[tuple[str, str, Any]] = []

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.sampled_from(paths), bodies | st.binary(max_size=50))
    def gather(method: str, path: str, body: object) -> None:
        requests.append((method, path, body))

    gather()
    for method, path, body in requests:
        if path not in ("/v1/pairing", "/v1/scan"):
            status, _ = await bedside.call(method, path, body)
            assert status in (200, 404, 405, 409, 422), (method, path, body)


async def test_the_openapi_document_names_every_path_and_every_reference_in_it_is_there(bedside: Bedside) -> None:
    status, document = await bedside.call("GET", "/v1/openapi.json")
    assert status == 200
    assert set(document["paths"]) == {route.path for route in ROUTES}
    wanted = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert wanted <= set(document["components"]["schemas"])


def test_roles_come_from_groups_and_root_is_an_admin() -> None:
    roles = Roles(ControlSection(viewer_group="users", operator_group="dialout"))
    gids = {role: gid for gid, role in roles._roles.items()}

    def role(*held: int) -> Role | None:
        person = roles.person(Credentials(54_321, frozenset(held)))
        return person and person.role

    assert role() is None
    assert role(gids[Role.VIEWER]) is Role.VIEWER
    assert role(gids[Role.VIEWER], gids[Role.OPERATOR]) is Role.OPERATOR
    root = roles.person(Credentials(0, frozenset()))
    assert root
    assert root.role is Role.ADMIN


async def test_a_role_too_low_changes_nothing_and_is_told(bedside: Bedside, monkeypatch: pytest.MonkeyPatch) -> None:
    for role, status in ((None, 403), (Role.VIEWER, 403), (Role.ADMIN, 404)):
        person = None if role is None else Person("somebody", role)
        monkeypatch.setattr(Roles, "person", lambda *_, person=person: person)
        assert (await bedside.call("DELETE", f"/v1/devices/{CGM_ADDRESS}"))[0] == status


def test_a_group_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="there is no group nowhere"):
        Roles(ControlSection(admin_group="nowhere"))
