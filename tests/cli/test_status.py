"""`iomt-gateway status` against a real daemon, and the ways in which there is none."""

import asyncio
import grp
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.cli import status
from gateway.cli.judge import Finding, Level
from gateway.config import ControlSection
from gateway.control import client

from .conftest import Bedside, lines_fit
from .test_judge import status as a_status


async def test_one_screen_says_what_is_wrong_and_what_to_do_and_the_exit_status_the_worst(bedside: Bedside) -> None:
    done = await bedside.run("status")
    assert done.status == 1
    assert lines_fit(done.out)
    assert len(done.out.splitlines()) < 24
    assert "amber  uplink            offline" in done.out
    assert "-> iomt-gateway devices pair" in done.out
    assert "\x1b" not in done.out


async def test_json_has_the_daemons_own_words_and_the_judgement(bedside: Bedside) -> None:
    answer = json.loads((await bedside.run("status", "--json")).out)
    assert (answer["gateway"], answer["level"], answer["adapter"]) == ("gw-demo", "amber", "up")
    assert {"green", "amber"} == {finding["level"] for finding in answer["findings"]}


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
async def test_a_terminal_gets_colour_unless_somebody_objects(
    bedside: Bedside,
    env: dict[str, str],
    coloured: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    session = await bedside.type("status", **env)
    assert await session.wait() == 1
    assert ("\x1b" in session.written) is coloured
    assert "amber  uplink" in session.text


async def test_an_adapter_that_goes_is_red(bedside: Bedside) -> None:
    await bedside.air.close()
    while (done := await bedside.run("status")).status != 2:
        pass
    assert "red    Bluetooth         the adapter cannot be used" in done.out
    scan = await bedside.run("devices", "scan", "--seconds", "1")
    assert scan.status == 1
    assert "the Bluetooth adapter is not in use: " in scan.err


async def test_a_daemon_that_was_never_there_ended_or_hangs_is_told_apart(bedside: Bedside) -> None:
    await bedside.stop(signal.SIGKILL)
    done = await bedside.run("status")
    assert (done.status, done.out) == (2, "")
    assert "the gateway has ended; systemctl start iomt-gateway" in done.err
    (bedside.site.gateway_state / "control.sock").unlink()
    done = await bedside.run("devices", "list")
    assert done.status == 2
    assert "there is no such socket: the gateway does not run, or has another configuration" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_somebody_who_may_not_is_told_how_to_get_in(bedside: Bedside) -> None:
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        text = bedside.site.gateway_config.read_text().replace('= "', f'= "{Path.cwd()}/')
        text = re.sub(rf'"{Path.cwd()}/(gw-demo|virtual:|system|off)', r'"\1', text)
        config = Path(public) / "gateway.toml"
        config.write_text(text)
        status, told = await _as_nobody("status", "--config", str(config))
        assert status == 2
        assert "only root and the gateway's own user may: use sudo, or name groups in [control]" in told
        config.write_text(f'{text}[control]\nsocket = "{public}/control.sock"\noperator_group = "users"\n')
        bedside.config = config
        await bedside.stop()
        await bedside.start()
        status, told = await _as_nobody("status", "--config", str(config))
        assert status == 1
        assert "you are in none of the groups" in told
        assert "usermod -aG GROUP nobody; then log in again (operator: users)" in told
        await bedside.stop()


async def _as_nobody(*arguments: str) -> tuple[int | None, str]:
    """The command as a user without groups; what it imports may be root's alone."""
    become = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    code = f"from gateway.cli import gateway, status; {become}; gateway.main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode()


def test_groups_that_cannot_reach_the_socket_are_told_so() -> None:
    assert "set control.socket" in client._joining(ControlSection(operator_group="users"))


def test_whoever_joined_a_group_after_the_login_is_told_to_log_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", 54_321, [me])))
    control = ControlSection(socket="/run/x.sock", operator_group="nurses")
    assert client._joining(control) == "you joined the group nurses after you logged in: log out and in again"
    monkeypatch.setattr(os, "getgroups", lambda: [54_321])
    assert "usermod" in client._joining(control)


def test_many_wearables_in_trouble_are_one_screen_too_the_worst_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    findings = [Finding(Level.GREEN, "uplink", "online")]
    findings += [Finding(Level.AMBER, f"bed {no}", "not linked", "is it worn?", f"{no}") for no in range(30)]
    findings += [Finding(Level.RED, "bed 30", "it has lost its pairing", "pair it", "30")]
    findings += [Finding(Level.GREEN, "bed 31", "linked", "", "31")]
    lines = list(status._screen(a_status(), findings, everything=False))
    assert len(lines) <= 24
    assert lines[3] == "red    bed 30            it has lost its pairing"
    assert lines[-1] == "amber  wearables         23 more: iomt-gateway status --all"
    assert len(list(status._screen(a_status(), findings, everything=True))) == 2 + 1 + 62 + 1
