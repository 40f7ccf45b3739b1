"""`iomt-gateway devices` against a real daemon with wearables that were paired before."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.cli import terminal, wearables
from gateway.control import api
from gateway.control.audit import verify
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS

from .conftest import Bedside, a_bedside, lines_fit

NASTY = "be\x1b[2Jd\u202e 4"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ward(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bedside]:
    """A bedside with a meter and an oximeter of its own that have names; each test leaves them as they are."""
    async with a_bedside(tmp_path_factory.mktemp("ward")) as bedside:
        await bedside.stop()
        entries = [
            {"address": GLS_ADDRESS, "profile": "gls", "bond": "authenticated", "name": NASTY, "battery_pct": 80},
            {"address": PLX_ADDRESS, "profile": "plx", "bond": "encrypted", "name": "finger", "stream": "ab" * 16},
        ]
        text = json.dumps({"schema": 3, "devices": entries})
        (bedside.site.gateway_state / "devices.json").write_text(text)
        await bedside.start()
        yield bedside


async def test_list_is_a_table_of_80_columns_and_nothing_from_the_air_steers_the_terminal(ward: Bedside) -> None:
    done = await ward.run("devices", "list")
    assert done.status == 0
    assert lines_fit(done.out)
    head, meter, oximeter = done.out.splitlines()
    assert head.split() == ["ADDRESS", "NAME", "KIND", "LINK", "HEARD", "BATTERY"]
    assert meter.startswith(f"{GLS_ADDRESS}  be?[2Jd? 4  glucose meter  not assigned  ")
    assert meter.endswith("  80 %")
    assert oximeter.split("  ")[1].strip() == "finger"


async def test_list_and_show_have_json(ward: Bedside) -> None:
    listed = json.loads((await ward.run("devices", "list", "--json")).out)
    assert [each["known"]["address"] for each in listed] == [GLS_ADDRESS, PLX_ADDRESS]
    shown = json.loads((await ward.run("devices", "show", "finger", "--json")).out)
    assert shown["known"] == listed[1]["known"]


async def test_scan_tells_health_wearables_and_which_of_them_are_new(ward: Bedside) -> None:
    done = await ward.run("devices", "scan", "--seconds", "1")
    assert lines_fit(done.out)
    lines = done.out.splitlines()
    told = {line[:17]: line[17:] for line in lines[1:]}
    assert set(told) == {GLS_ADDRESS, CGM_ADDRESS}
    assert "known" in told[GLS_ADDRESS]
    assert "strong -50 dBm  new" in told[CGM_ADDRESS]
    assert done.err == "Listening for wearables (1 s)\n"
    found = json.loads((await ward.run("devices", "scan", "--seconds", "1", "--json")).out)
    assert {each["address"] for each in found} == {GLS_ADDRESS, CGM_ADDRESS}


async def test_a_wearable_goes_by_its_address_the_end_of_one_or_its_name(ward: Bedside) -> None:
    for name in (PLX_ADDRESS.lower(), "01:02", "Finger"):
        done = await ward.run("devices", "show", name)
        assert done.status == 0
        assert lines_fit(done.out)
        assert f"address         {PLX_ADDRESS}\n" in done.out
        assert "pairing         encrypted, nobody was authenticated\n" in done.out
    for name, told in (("bed 9", "is not a wearable of this gateway; there is"), ("", "no wearable is named")):
        done = await ward.run("devices", "show", name)
        assert done.status == 2
        assert told in done.err
        assert f"{PLX_ADDRESS} (finger)" in done.err


async def test_what_takes_something_away_wants_yes(ward: Bedside) -> None:
    for act in ("assign", "unassign", "unpair", "release", "remove"):
        done = await ward.run("devices", act, "finger")
        assert (done.status, done.out) == (2, "")
        assert done.err.endswith("say --yes\n")
    assert [entry["act"] for entry, _ in verify(ward.site.gateway_state / "audit.jsonl")] == []


async def test_a_wearable_gets_a_name_a_stream_and_its_end(ward: Bedside) -> None:
    assert (await ward.run("devices", "rename", "01:03", "bed 4")).out == f"{GLS_ADDRESS}: is called bed 4 now\n"
    done = await ward.run("devices", "assign", "bed 4")
    stream = done.out.split("new stream:")[1].split()[0]
    assert f"iomt-receiver streams assign {stream} PATIENT" in done.out
    assert lines_fit(done.out)
    again = json.loads((await ward.run("devices", "assign", "bed 4", "--since", "all", "--yes", "--json")).out)
    assert again["stream"] != stream
    assert (await ward.run("devices", "unassign", "bed 4", "--yes")).status == 0
    assert (await ward.run("devices", "unpair", "bed 4", "--yes")).status == 0
    shown = json.loads((await ward.run("devices", "show", "bed 4", "--json")).out)
    assert (shown["known"]["bond"], shown["known"]["stream"]) == ("none", None)
    assert json.loads((await ward.run("devices", "remove", "bed 4", "--yes", "--json")).out)["done"]
    assert (await ward.run("devices", "show", "bed 4")).status == 2


async def test_users_of_a_shared_wearable_are_assigned_one_by_one_and_taken_away_one_by_one_or_all(
    ward: Bedside,
) -> None:
    for user in ("1", "2"):
        done = await ward.run("devices", "assign", "finger", "--user", user)
        assert f"from now on its readings of user {user} go to a new stream" in done.out
    which = await ward.run("devices", "unassign", "finger", "--yes")
    assert (which.status, which.out) == (2, "")
    assert "is assigned by user (1, 2): say --user N, or --all" in which.err
    done = await ward.run("devices", "unassign", "finger", "--user", "1", "--yes")
    assert done.out == f"{PLX_ADDRESS}: nothing more of user 1 is taken from it\n"
    known = json.loads((await ward.run("devices", "show", "finger", "--json")).out)["known"]
    assert ([slot["user"] for slot in known["users"]], known["stream"]) == ([2], "ab" * 16)
    assert (await ward.run("devices", "unassign", "finger", "--all", "--yes")).status == 0
    known = json.loads((await ward.run("devices", "show", "finger", "--json")).out)["known"]
    assert (known["users"], known["stream"]) == ([], None)


async def test_since_is_a_time(ward: Bedside) -> None:
    done = await ward.run("devices", "assign", "finger", "--since", "yesterday")
    assert done.status == 2
    assert "--since yesterday: is no time such as" in done.err


async def test_an_empty_name_takes_the_name_away_and_never_means_the_only_wearable(ward: Bedside) -> None:
    assert (await ward.run("devices", "rename", "finger", "")).out == f"{PLX_ADDRESS}: has no name any more\n"
    assert (await ward.run("devices", "unpair", "", "--yes")).status == 2
    assert (await ward.run("devices", "rename", PLX_ADDRESS, "finger")).status == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("scan", "--seconds", "0"), "argument --seconds: 0: is no number from 0.1 to 60"),
        (("scan", "--seconds", "nan"), "argument --seconds: nan: is no number from 0.1 to 60"),
        (("pair", "x", "--user", "256"), "argument --user: 256: is no number from 0 to 255"),
        (("pair", "x", "--name", 129 * "x"), "argument --name: is longer than 128 characters"),
        (("rename", "x", 129 * "x"), "argument NAME: is longer than 128 characters"),
    ],
)
async def test_what_the_gateway_would_not_take_is_refused_before_it_is_asked(
    ward: Bedside, wrong: tuple[str, ...], told: str
) -> None:
    done = await ward.run("devices", *wrong)
    assert done.status == 2
    assert told in done.err


async def test_without_wearables_everything_says_how_to_get_one(ward: Bedside) -> None:
    for device in (GLS_ADDRESS, PLX_ADDRESS):
        await ward.run("devices", "remove", device, "--yes")
    assert (await ward.run("devices", "list")).out == "There are no wearables yet. Next: iomt-gateway devices pair\n"
    assert "no wearables yet; iomt-gateway devices pair" in (await ward.run("devices", "show", "x")).err


@pytest.mark.parametrize(
    ("name", "make", "model", "told"),
    [
        ("Contour7830", "Ascensia", None, "Ascensia Contour7830"),
        ("meter+0815", "Roche", "Accu-Chek Guide", "Roche Accu-Chek Guide"),
        ("OMRON BLEsmart", "Omron", None, "OMRON BLEsmart"),
        ("Virtual", None, None, "Virtual"),
        (None, None, None, "-"),
    ],
)
async def test_what_is_near_goes_by_make_and_model_as_far_as_they_are_told(
    name: str | None, make: str | None, model: str | None, told: str
) -> None:
    found = api.Found(GLS_ADDRESS, name, make, model, ("gls",), -50, False)  # noqa: FBT003 - its fields in order
    assert list(wearables.nearby([found]))[1].split("  ")[1] == told


async def test_a_table_cuts_the_flexible_column_and_counts_wide_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = list(terminal.table(("ADDRESS", "NAME", "X"), [("1" * 17, "血糖" * 12, "x"), ("2", "a", "y")], flexible=1))
    assert all(terminal.width(line) <= 40 for line in lines)
    assert "~" in lines[1]
    assert len({terminal.width(line) for line in lines}) == 1
