"""`iomt-gateway devices pair`: the dialogue as a person types it, the same for a program, and nothing half done."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from bumble.pairing import PairingDelegate

from gateway.config import GatewayConfig, load
from gateway.control.client import Client
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS
from gateway.lab.pairing import Wearer
from gateway.lab.session import Session

from .conftest import Bedside, a_bedside, lines_fit

pytestmark = pytest.mark.asyncio(loop_scope="module")
GLS = ("devices", "pair", GLS_ADDRESS, "--profile", "gls")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bedside]:
    async with a_bedside(tmp_path_factory.mktemp("ward")) as bedside:
        yield bedside


@pytest_asyncio.fixture(loop_scope="module")
async def ward(shared: Bedside) -> AsyncIterator[Bedside]:
    """A bedside where nothing is paired."""
    yield shared
    for each in await devices(shared):
        await Client(load(shared.config, GatewayConfig)).call(
            "DELETE", f"/v1/devices/{each['known']['address']}", timeout_s=60
        )
    for wearable in (shared.cgm, shared.meter):
        await wearable.forget_bonds()
        wearable.wearer = Wearer()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - knows no event
            await asyncio.sleep(0.05)


async def prick(ward: Bedside) -> None:
    """Take a reading once all that the meter has stored was fetched."""
    async with asyncio.timeout(60):
        while [each["now"]["backfill"] for each in await devices(ward)] != ["complete"]:  # noqa: ASYNC110 - is asked
            await asyncio.sleep(0.1)
    await ward.meter.measure()


async def devices(ward: Bedside) -> list[dict]:
    return json.loads(await Client(load(ward.config, GatewayConfig)).call("GET", "/v1/devices"))


async def known(ward: Bedside, address: str = GLS_ADDRESS) -> dict | None:
    return next((each["known"] for each in await devices(ward) if each["known"]["address"] == address), None)


async def compared(ward: Bedside, session: Session) -> None:
    """Say yes to six digits if they are those on the meter's display."""
    shown = await session.expect(r"six digits:   (\d{3}) (\d{3})\n")
    await until(lambda: ward.meter.wearer.shown is not None)
    assert f"{ward.meter.wearer.shown:06}" == shown[1] + shown[2]
    await session.expect(r"show the same\? \[yes/no\]")
    session.type("yes\n")


async def test_a_person_chooses_compares_takes_a_reading_and_gives_a_name(ward: Bedside) -> None:
    session = await ward.type("devices", "pair", "--seconds", "1")
    await session.expect("take a reading with it now")
    await session.expect("Which one?")
    [no] = [line.split()[0] for line in session.text.splitlines() if "glucose meter" in line]
    session.type("9\n")
    await session.expect("Please answer: 1, 2, again, quit\nWhich one?")
    session.type(f"{no}\nyes\n")  # what is typed before it is asked for is no answer
    await compared(ward, session)
    await session.expect("Paired: iomt-gateway Virtual glucose meter, serial number F0000")
    await session.expect("Now take a reading")
    await prick(ward)
    await session.expect(r"capillary glucose  \d+ mg/dL \(\d+\.\d mmol/L\)")
    await session.expect("display show the same")
    session.type("y\n")
    await session.expect("A name for it")
    too_long = 129 * "x"
    session.type(f"{too_long}\n")  # what was paired is not lost by it
    await session.expect("At most 128 characters, please.\nA name for it")
    session.type("bed 4\n")
    stream = await session.expect("iomt-receiver streams assign ([0-9a-f]{32}) PATIENT")
    assert await session.wait() == 0
    assert lines_fit(session.text.replace(too_long, ""))
    now = await known(ward)
    assert now
    assert (now["name"], now["stream"], now["bond"]) == ("bed 4", stream[1], "authenticated")
    again = await ward.run("devices", "pair", "bed 4")
    assert again.status == 2
    assert f"is paired; to do it again, first: iomt-gateway devices unpair {GLS_ADDRESS} --yes" in again.err


async def test_one_that_was_unpaired_keeps_its_stream_if_it_is_still_the_same_persons(ward: Bedside) -> None:
    session = await ward.type(*GLS, "--wait", "0", "--name", "bed 4")
    await compared(ward, session)
    assert await session.wait() == 0
    before = await known(ward)
    assert before
    await ward.run("devices", "unpair", "bed 4", "--yes")
    await ward.meter.forget_bonds()
    ward.meter.wearer.shown = None
    session = await ward.type("devices", "pair", "bed 4", "--wait", "0")
    await compared(ward, session)
    await session.expect("Is it still the same person's?")
    session.type("yes\n")
    assert await session.wait() == 0
    now = await known(ward)
    assert now
    assert (now["stream"], now["name"], now["bond"]) == (before["stream"], "bed 4", "authenticated")


@pytest.mark.parametrize("how", ["no", "Ctrl-C", "hang up"])
async def test_a_reading_that_is_another_ctrl_c_and_a_lost_terminal_undo_everything(ward: Bedside, how: str) -> None:
    session = await ward.type(*GLS)
    await compared(ward, session)
    await session.expect("Now take a reading")
    if how == "no":
        await prick(ward)
        await session.expect("display show the same")
        session.type("no\n")
        await session.expect("Undone: it is as if it had never been paired here")
        assert await session.wait() == 1
    elif how == "Ctrl-C":
        session.type("\x03")
        await session.expect("Undone: it is as if it had never been paired here")
        assert await session.wait() == 130
    else:
        await session.close()
    assert await known(ward) is None


async def test_ctrl_c_before_the_digits_were_compared_pairs_nothing(ward: Bedside) -> None:
    session = await ward.type(*GLS)
    await session.expect("show the same")
    session.type("\x03")
    await session.expect("Nothing was paired")
    assert await session.wait() == 130
    assert await known(ward) is None


@pytest.mark.parametrize("io", ["DISPLAY_OUTPUT_ONLY", "KEYBOARD_INPUT_ONLY"])
async def test_six_digits_are_typed_here_or_there(ward: Bedside, io: str) -> None:
    wearer = ward.cgm.wearer = Wearer(PairingDelegate.IoCapability[io])
    session = await ward.type("devices", "pair", CGM_ADDRESS, "--profile", "cgm", "--no-assign", "--name", "arm")
    if io == "DISPLAY_OUTPUT_ONLY":
        await session.expect("Which six digits does the wearable show?")
        await until(lambda: wearer.shown is not None)
        session.type(f"{wearer.shown:06}\n")
    else:
        shown = await session.expect(r"Type these six digits on the wearable:   (\d{3}) (\d{3})")
        wearer.type(int(shown[1] + shown[2]))
    await session.expect(f"next: iomt-gateway devices assign {CGM_ADDRESS}")
    assert await session.wait() == 0
    now = await known(ward, CGM_ADDRESS)
    assert now
    assert (now["stream"], now["name"]) == (None, "arm")


@pytest.mark.parametrize("right", [True, False])
async def test_a_program_reads_events_and_answers_with_the_displays_digits(ward: Bedside, *, right: bool) -> None:
    pipe = asyncio.subprocess.PIPE
    command = ward.command("devices", "pair", CGM_ADDRESS, "--seconds", "1", "--wait", "0", "--json")
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin
    assert process.stdout
    asked = json.loads(await process.stdout.readline())
    assert (asked["event"], asked["method"]) == ("asked", "compare")
    await until(lambda: ward.cgm.wearer.shown is not None)
    process.stdin.write(f"{ward.cgm.wearer.shown:06}\n".encode() if right else b"000000\n")
    rest, err = await process.communicate()
    events = [json.loads(line) for line in rest.splitlines()]
    if right:
        assert [each["event"] for each in events] == ["paired", "assigned", "done"]
        assert (await known(ward, CGM_ADDRESS) or {})["stream"] == events[1]["stream"] == events[2]["stream"]
    else:
        assert process.returncode == 1
        assert b"iomt-gateway: " in err
        assert await known(ward, CGM_ADDRESS) is None


async def test_what_cannot_be_is_told_with_the_way_out(ward: Bedside) -> None:
    nobody = await ward.run("devices", "pair")
    assert (nobody.status, "see: iomt-gateway devices scan" in nobody.err) == (2, True)
    unheard = await ward.run("devices", "pair", "F0:00:00:00:00:99", "--seconds", "0.5")
    assert unheard.status == 1
    assert "was not heard; switch it on or take a reading with it, then try again" in unheard.err
    silent = await ward.run(*GLS)
    assert silent.status == 1
    assert "nobody answers: standard input has ended" in silent.err
