"""`iomt-gateway watch`: live, in a pipe and in a terminal, over a restart of the daemon; values only when asked for."""

import asyncio
import json
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.control.audit import verify
from gateway.lab.bonds import BondStore, bond_beforehand
from gateway.lab.devices import GLS_ADDRESS

from .conftest import Bedside, a_bedside, lines_fit

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ward(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bedside]:
    """A bedside whose meter is paired and assigned."""
    async with a_bedside(tmp_path_factory.mktemp("ward")) as bedside:
        await bedside.stop()
        entry = {
            "address": GLS_ADDRESS,
            "profile": "gls",
            "bond": "authenticated",
            "name": "bed 4",
            "stream": "ab" * 16,
        }
        text = json.dumps({"schema": 3, "devices": [entry]})
        (bedside.site.gateway_state / "devices.json").write_text(text)
        bond_beforehand(bedside.site.bonds, [GLS_ADDRESS])
        keys = await BondStore(bedside.site.bonds).get(GLS_ADDRESS)
        assert keys
        await bedside.meter.take_bond(keys)
        await bedside.start()
        yield bedside


async def piped(ward: Bedside, *options: str) -> Process:
    return await asyncio.create_subprocess_exec(*ward.command("watch", *options), stdout=PIPE, stderr=PIPE)


async def until(watching: Process, words: str) -> str:
    assert watching.stdout
    async with asyncio.timeout(60):
        while words not in (line := (await watching.stdout.readline()).decode()):
            assert line
    return line


async def test_a_pipe_gets_a_line_for_each_change_also_after_a_restart_of_the_daemon(ward: Bedside) -> None:
    watching = await piped(ward)
    await until(watching, "gateway: ")
    await until(watching, f"{GLS_ADDRESS} (bed 4): linked")
    await ward.stop(signal.SIGKILL)
    await until(watching, "gateway: does not answer; waiting for it")
    await ward.start()
    await until(watching, f"{GLS_ADDRESS} (bed 4): linked")
    watching.send_signal(signal.SIGINT)
    out, err = await watching.communicate()
    assert (watching.returncode, err) == (130, b"")
    assert b"mg/dL" not in out


async def test_values_are_shown_when_asked_for_and_the_audit_log_says_so(ward: Bedside) -> None:
    before = len(list(verify(ward.site.gateway_state / "audit.jsonl")))
    watching = await piped(ward, "--values", "--json")
    async with asyncio.timeout(60):
        while len(list(verify(ward.site.gateway_state / "audit.jsonl"))) < before + 2:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.1)
    await ward.meter.measure()
    reading = json.loads(await until(watching, '"reading"'))
    assert (reading["device"], reading["metric"], reading["unit"]) == (GLS_ADDRESS, "capillary glucose", "mg/dL")
    watching.kill()
    await watching.wait()


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
async def test_a_terminal_is_redrawn_within_80_by_24(ward: Bedside, env: dict[str, str]) -> None:
    session = await ward.type("watch", **env)
    await session.expect("bed 4 .*linked")
    session.type("\x03")
    assert await session.wait() == 130
    frames = session.written.split("\x1b[H\x1b[J")
    assert ("\x1b[3" in session.written) is not bool(env)
    assert all(frame.count("\n") < 24 for frame in frames)
    assert lines_fit(session.text)


async def test_a_terminal_that_cannot_be_redrawn_gets_lines(ward: Bedside) -> None:
    session = await ward.type("watch", TERM="dumb")
    await session.expect(r"\d\d:\d\d:\d\d  gateway: ")
    session.type("\x03")
    assert await session.wait() == 130
    assert "\x1b" not in session.written


async def test_without_a_gateway_it_ends_at_once(ward: Bedside) -> None:
    await ward.stop()
    done = await ward.run("watch")
    assert done.status == 2
    assert "systemctl start iomt-gateway" in done.err
