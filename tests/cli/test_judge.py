"""What is green, amber or red, and what a person is told to do about it."""

import datetime as dt
import time
from typing import Any

import pytest

from gateway.ble.inventory import Device, UserSlot
from gateway.ble.pairing import Security
from gateway.cli.judge import Finding, Level, judge, worst
from gateway.control import api

ADDRESS = "F0:00:00:00:01:01"


def status(**facts: Any) -> api.Status:
    well = {
        "gateway": "gw-1",
        "version": "1",
        "uptime_s": 9,
        "online": True,
        "uplink_trouble": None,
        "adapter": "up",
        "adapter_trouble": None,
        "clock": "ntp",
        "chain": "",
        "bundles_waiting": 0,
        "bytes_waiting": 0,
        "oldest_waiting_s": 0.0,
        "outbox_hours_left": None,
        "card_years": 20.0,
        "trouble": None,
        "records_sealed": 1,
        "bundles_acknowledged": 1,
        "bundles_receipted": 1,
        "bundles_parked": 0,
        "key_list_serial": 1,
        "devices": (),
    }
    return api.Status(**(well | facts))


def wearable(state: str, *, profile: str = "cgm", heard_s: float | None = 1.0, **facts: Any) -> api.Wearable:
    seen = None if heard_s is None else int((time.time() - heard_s) * 1000)
    known = Device(ADDRESS, profile, b"s" * 16, bond=Security.AUTHENTICATED, last_seen_ms=seen, **facts)
    return api.Wearable(known, api.DeviceStatus(ADDRESS, profile, state, "complete", None, None))


def identity(days: float) -> api.Identity:
    until = (dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).isoformat()
    return api.Identity("gw-1", "", until, until, 1, "file")


def found(findings: list[Finding], about: str) -> Finding:
    return next(each for each in findings if each.about == about)


def test_a_gateway_that_is_well_is_green_and_asks_nothing_of_anybody() -> None:
    findings = judge(status(), [wearable("link-up")], identity(300))
    assert worst(findings) is Level.GREEN
    assert not [each for each in findings if each.todo]


@pytest.mark.parametrize(("profile", "state"), [("wss", "link-down"), ("bls", "link-up")])
def test_a_shared_wearable_whose_users_are_nobody_asks_for_one(profile: str, state: str) -> None:
    strangers = wearable(state, profile=profile, users_seen=(1, 4))
    finding = judge(status(), [strangers], identity(300))[-1]
    assert (finding.level, finding.todo) == (Level.AMBER, f"iomt-gateway devices assign {ADDRESS} --user 1")
    assert "user 1, 4 are not taken" in finding.says
    a_guest = wearable(state, profile=profile, users_seen=(1, 4), users=(UserSlot(1, b"u" * 16, 0),))
    assert judge(status(), [a_guest], identity(300))[-1].level is Level.GREEN


@pytest.mark.parametrize(
    ("facts", "about", "level", "told"),
    [
        ({"online": False, "uplink_trouble": "no route"}, "uplink", Level.AMBER, "no route"),
        ({"online": False, "outbox_hours_left": 23.0}, "uplink", Level.RED, "kept until it is back"),
        ({"oldest_waiting_s": 301.0, "bundles_waiting": 3}, "uplink", Level.AMBER, "receiver"),
        ({"trouble": "read-only"}, "disk", Level.RED, "docs/operations.md"),
        ({"card_years": 0.5}, "disk", Level.AMBER, "docs/sizing.md"),
        ({"clock": "unknown"}, "clock", Level.AMBER, "timedatectl"),
        ({"adapter": "down", "adapter_trouble": "rfkill unblock bluetooth"}, "Bluetooth", Level.RED, "rfkill unblock"),
        ({"adapter": "none"}, "Bluetooth", Level.AMBER, "ble.adapter"),
        ({"adapter": "starting"}, "Bluetooth", Level.AMBER, "some seconds"),
        ({"bundles_parked": 2}, "refused", Level.RED, "systemctl reload"),
    ],
)
def test_what_is_wrong_with_the_box_is_told_with_what_to_do(
    facts: dict[str, Any], about: str, level: Level, told: str
) -> None:
    finding = found(judge(status(**facts), [wearable("link-up")], None), about)
    assert finding.level is level
    assert told in finding.todo


@pytest.mark.parametrize(
    ("state", "profile", "heard_s", "level", "told"),
    [
        ("unassigned", "cgm", 1.0, Level.AMBER, f"devices assign {ADDRESS}"),
        ("unpaired", "cgm", 1.0, Level.AMBER, f"devices pair {ADDRESS}"),
        ("bond-lost", "cgm", 1.0, Level.RED, f"devices unpair {ADDRESS} --yes"),
        ("quarantined", "cgm", 1.0, Level.RED, f"devices show {ADDRESS}"),
        ("link-down", "cgm", 60.0, Level.AMBER, "charged"),
        ("link-down", "cgm", 4000.0, Level.RED, "charged"),
        ("link-down", "cgm", None, Level.RED, "charged"),
        ("link-down", "gls", 4000.0, Level.GREEN, ""),
    ],
)
def test_what_is_wrong_with_a_wearable_is_told_with_what_to_do(
    state: str, profile: str, heard_s: float | None, level: Level, told: str
) -> None:
    [finding] = judge(status(), [wearable(state, profile=profile, heard_s=heard_s, name="bed 4")], None)[4:]
    assert (finding.about, finding.level) == ("bed 4", level)
    assert told in finding.todo


def test_a_battery_that_runs_out_is_amber() -> None:
    findings = judge(status(), [wearable("link-up", battery_pct=14)], None)
    assert [each.level for each in findings[4:]] == [Level.GREEN, Level.AMBER]


@pytest.mark.parametrize(("days", "level"), [(3.5, Level.GREEN), (2.9, Level.AMBER), (-1, Level.RED)])
def test_certificates_that_end_are_told_in_time(days: float, level: Level) -> None:
    assert found(judge(status(), [], identity(days)), "certificates").level is level


def test_a_gateway_without_wearables_says_how_to_get_one() -> None:
    assert found(judge(status(), [], None), "wearables").todo == "iomt-gateway devices pair"
