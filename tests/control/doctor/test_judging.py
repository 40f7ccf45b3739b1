"""How facts are judged: what is fine, what a person should look at, what must be mended, and how."""

import datetime as dt
from dataclasses import replace

import pytest

from gateway.control import api
from gateway.control.doctor import box, radio, trust
from gateway.control.doctor.findings import Finding, Level
from gateway.control.doctor.software import versions
from gateway.control.doctor.way import Step, Tried, judge
from gateway.observe.advisories import Audited, Vulnerable

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
OK, WARN, FAIL, SKIP = Level.OK, Level.WARN, Level.FAIL, Level.SKIP
GIB = 1 << 30
CLOCK = box.ClockFacts("ntp", 20, before_certificate=False)
DISK = box.DiskFacts("/state", 8 * GIB, read_only=False, outbox_bytes=0, capacity_bytes=4 * GIB, reserve_bytes=GIB)
CARD = box.CardFacts("mmcblk0", 2, None)
RADIO = radio.RadioFacts("hci0", True, (), "#1 SMP Debian 6.12.9-1", "5.66", True, "")  # noqa: FBT003 - facts
STATUS = api.Status(
    gateway="gw-001",
    version="1",
    uptime_s=5,
    online=True,
    uplink_trouble=None,
    adapter="up",
    adapter_trouble=None,
    clock="ntp",
    chain="",
    bundles_waiting=0,
    bytes_waiting=0,
    oldest_waiting_s=0,
    outbox_hours_left=None,
    card_years=None,
    trouble=None,
    records_sealed=0,
    bundles_acknowledged=0,
    bundles_receipted=0,
    bundles_parked=0,
    key_list_serial=1,
    devices=(),
)
CERTIFICATE = trust.CertificateFacts("TLS certificate", "tls.crt", NOW + dt.timedelta(days=9), "", 3.0, "enrol")


def levels(findings: list[Finding]) -> dict[str, Level]:
    assert all(bool(each.fix) is (each.level in {WARN, FAIL}) for each in findings), "each trouble has a way out"
    return {each.check: each.level for each in findings}


@pytest.mark.parametrize(
    ("facts", "level", "said"),
    [
        (CLOCK, OK, "a time service keeps it; at most 0.02 s off"),
        (replace(CLOCK, source="battery"), OK, "a battery-backed clock agrees"),
        (replace(CLOCK, source=None), WARN, "nothing vouches for it"),
        (replace(CLOCK, before_certificate=True), FAIL, "before the TLS certificate was made"),
    ],
)
def test_the_clock(facts: box.ClockFacts, level: Level, said: str) -> None:
    assert levels([box.clock(facts)]) == {"clock": level}
    assert said in box.clock(facts).evidence


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (DISK, OK),
        (replace(DISK, free_bytes=2 * GIB), WARN),
        (replace(DISK, free_bytes=2 * GIB, outbox_bytes=3 * GIB), OK),
        (replace(DISK, free_bytes=GIB), FAIL),
        (replace(DISK, read_only=True), FAIL),
    ],
)
def test_the_disk(facts: box.DiskFacts, level: Level) -> None:
    assert levels([box.disk(facts)]) == {"disk": level}


@pytest.mark.parametrize(
    ("facts", "level", "said"),
    [
        (CARD, OK, "mmcblk0: 20 % of its life used, by its own word"),
        (replace(CARD, life_tenths=9), WARN, "90 %"),
        (replace(CARD, life_tenths=11), FAIL, "is used up"),
        (replace(CARD, life_tenths=None), WARN, "does not tell its wear"),
        (replace(CARD, life_tenths=0, years=0.5), WARN, "0.5 years"),
        (replace(CARD, life_tenths=None, years=20.0), OK, "20.0 years"),
    ],
)
def test_the_card(facts: box.CardFacts, level: Level, said: str) -> None:
    assert levels([box.card(facts)]) == {"card": level}
    assert said in box.card(facts).evidence


def test_the_daemon() -> None:
    assert levels(list(box.daemon(STATUS, ""))) == {"gateway": OK, "uplink": OK}
    troubled = replace(STATUS, online=False, trouble="No space left on device", bundles_parked=2)
    assert levels(list(box.daemon(troubled, ""))) == {"gateway": OK, "storage": FAIL, "uplink": FAIL, "parked": FAIL}
    assert levels(list(box.daemon(None, "nobody answers"))) == {"gateway": WARN}


@pytest.mark.parametrize(
    ("facts", "troubles"),
    [
        (RADIO, {}),
        (
            replace(RADIO, present=False, powered=None),
            {"adapter": FAIL} | dict.fromkeys(("rfkill", "adapter in BlueZ"), SKIP),
        ),
        (replace(RADIO, powered=None), {"adapter in BlueZ": FAIL}),
        (replace(RADIO, blocked=("soft",)), {"rfkill": FAIL}),
        (replace(RADIO, blocked=("hard", "soft")), {"rfkill": FAIL}),
        (replace(RADIO, bluez="5.55"), {"BlueZ": WARN}),
        (replace(RADIO, bluez="?"), {"BlueZ": WARN}),
        (replace(RADIO, bluez=None, powered=None), {"BlueZ": FAIL, "adapter in BlueZ": SKIP}),
        (replace(RADIO, powered=False), {"adapter in BlueZ": WARN}),
        (replace(RADIO, kernel="#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1"), {"kernel": WARN}),
        (replace(RADIO, adapter="none", present=False, bluez=None, powered=None), {}),
    ],
)
def test_bluetooth(facts: radio.RadioFacts, troubles: dict[str, Level]) -> None:
    facts = replace(facts, refusal="hci0: D-Bus does not answer")
    found = levels(list(radio.radio(facts)))
    assert {check: level for check, level in found.items() if level is not OK} == troubles


@pytest.mark.parametrize(
    ("days", "level"),
    [(9, OK), (2, WARN), (-1, FAIL)],
)
def test_a_certificate(days: float, level: Level) -> None:
    facts = replace(CERTIFICATE, until=NOW + dt.timedelta(days=days))
    assert levels([trust.certificate(facts, NOW)]) == {"TLS certificate": level}


def test_a_certificate_that_cannot_be_used() -> None:
    found = trust.certificate(replace(CERTIFICATE, until=None, error="tls.crt: belongs to gw-2"), NOW)
    assert (found.level, found.evidence) == (FAIL, "tls.crt: belongs to gw-2")


@pytest.mark.parametrize(("days", "level"), [(5, OK), (-1, WARN), (None, WARN)])
def test_the_revocation_list(days: float | None, level: Level) -> None:
    until = None if days is None else NOW + dt.timedelta(days=days)
    assert levels([trust.revocation("ca.crl", until, NOW)]) == {"revocation list": level}


@pytest.mark.parametrize(("days", "level"), [(5, OK), (-1, WARN)])
def test_the_key_list(days: float, level: Level) -> None:
    assert levels([trust.key_list(3, 2, NOW + dt.timedelta(days=days), NOW)]) == {"key list": level}


def test_files_that_others_may_use_are_told_one_by_one() -> None:
    fine, wrong = trust.FileFacts("tls.key", "", ""), trust.FileFacts("sign.key", "others may use this key", "chmod")
    assert levels(list(trust.files([fine]))) == {"permissions": OK}
    assert [each.fix for each in trust.files([fine, wrong, wrong])] == ["chmod", "chmod"]


def test_without_a_snapshot_nothing_is_audited_and_nothing_is_called_clean() -> None:
    [found] = versions(None, 75, NOW)
    assert found.level is SKIP
    assert found.evidence.startswith("not looked at: ")
    assert "--advisories" in found.evidence


def test_a_snapshot_is_as_good_as_it_is_new() -> None:
    audited = Audited(9, NOW - dt.timedelta(days=3), ())
    assert [(each.level, each.evidence) for each in versions(audited, 75, NOW)] == [
        (OK, "none is known: 75 packages, 9 advisories, the newest 3 days old")
    ]
    assert [each.level for each in versions(replace(audited, newest=NOW - dt.timedelta(days=40)), 75, NOW)] == [WARN]
    broken = Vulnerable("h11", "0.13", "GHSA-1", "takes bad chunks", "0.16")
    [found] = versions(replace(audited, found=(broken,)), 75, NOW)
    assert (found.level, found.evidence, found.fix) == (
        FAIL,
        "h11 0.13: GHSA-1 takes bad chunks",
        "upgrade h11 to 0.16",
    )


def test_every_step_of_a_way_has_its_own_way_out() -> None:
    found = [*judge("broker", [Tried(step, "", failed=True) for step in Step])]
    assert {each.level for each in found} == {FAIL}
    assert len({each.fix for each in found}) == len(Step)
