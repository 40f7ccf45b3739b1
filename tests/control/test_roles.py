"""Who may what: roles by Unix group, as the kernel tells them of processes that are other users."""

import asyncio
import grp
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import ControlSection
from gateway.control.audit import verify
from gateway.control.peers import Role, Roles
from gateway.control.routes import openapi
from gateway.errors import ConfigError
from gateway.lab.devices import CGM_ADDRESS
from gateway.observe.http import Credentials

from .conftest import gateway_with

STRANGER_UID = 54_321
GROUPS = {"viewer": "users", "operator": "dialout", "admin": "adm"}
"""Debian has these."""
NEEDED = {
    "GET /v1/status": "viewer",
    "GET /v1/outbox": "viewer",
    "GET /v1/identity": "viewer",
    "GET /v1/events": "viewer",
    "GET /v1/devices": "viewer",
    "GET /v1/devices/{address}": "viewer",
    "GET /v1/readings": "operator",
    "GET /v1/devices/{address}/readings": "operator",
    "POST /v1/devices/{address}/rename": "operator",
    "POST /v1/devices/{address}/assign": "operator",
    "POST /v1/devices/{address}/unassign": "operator",
    "POST /v1/devices/{address}/unpair": "operator",
    "POST /v1/devices/{address}/release": "admin",
    "DELETE /v1/devices/{address}": "admin",
    "POST /v1/scan": "operator",
    "POST /v1/pairing": "operator",
    "GET /v1/pairing": "operator",
    "POST /v1/pairing/answer": "operator",
}
ANYTHING = '{"seconds": 0.01, "address": 1, "yes": 1, "name": 1}'


def may(role: str | None, needed: str) -> bool:
    return role is not None and Role[role.upper()] >= Role[needed.upper()]


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


def test_a_group_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="there is no group nowhere"):
        Roles(ControlSection(admin_group="nowhere"))


def test_every_operation_has_its_role() -> None:
    told = {
        f"{method.upper()} {path}": operation["x-role"]
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert told == NEEDED


@pytest.fixture
def meeting_place() -> Iterator[Path]:
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


async def status_for(group: str | None, socket: Path, operation: str) -> int | None:
    """What curl is answered that runs as a user in `group` alone; None: it may not even connect."""
    method, _, path = operation.partition(" ")
    url = "http://localhost" + path.replace("{address}", CGM_ADDRESS)
    gids = [grp.getgrnam(group).gr_gid] if group else []
    curl = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--no-buffer", "--include", "--unix-socket", str(socket), "-X", method),
        *(("--data", ANYTHING) if method == "POST" else ()),
        url,
        stdout=asyncio.subprocess.PIPE,
        user=STRANGER_UID,
        group=STRANGER_UID,
        extra_groups=gids,
        cwd="/",
    )
    assert curl.stdout
    async with asyncio.timeout(20):
        line = await curl.stdout.readline()
    if curl.returncode is None:  # a stream does not end by itself
        curl.kill()
    await curl.wait()
    return int(line.split()[1]) if line else None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_each_user_may_what_their_role_may_and_nothing_else(
    meeting_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    control = {f"{role}_group": group for role, group in GROUPS.items()}
    control["socket"] = str(meeting_place / "control.sock")
    async with gateway_with(ble={"connect_timeout_s": 0.05}, control=control) as bedside:
        for role in (None, *GROUPS):
            group = role and GROUPS[role]
            statuses = {operation: await status_for(group, bedside.socket, operation) for operation in NEEDED}
            refused = {operation for operation, status in statuses.items() if status == 403}
            assert refused == {operation for operation, needed in NEEDED.items() if not may(role, needed)}, role
        who = {(entry["who"], entry["role"]) for entry, _ in verify(bedside.site.gateway_state / "audit.jsonl")}
    assert who == {(f"uid {STRANGER_UID}", "operator"), (f"uid {STRANGER_UID}", "admin")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_without_groups_the_socket_is_the_gateways_own(
    meeting_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with gateway_with(control={"socket": str(meeting_place / "control.sock")}) as bedside:
        assert await status_for("adm", bedside.socket, "GET /v1/status") is None
