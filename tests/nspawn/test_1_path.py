"""Under exactly the shipped units readings arrive; whatever ends a service, it comes back and nothing is lost."""

import json
import signal
import time

import pytest

from tests.nspawn.container import until
from tests.nspawn.site import CONFIG, GATEWAY_CLI, RECEIVER_CLI, Site

SCRAPE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
SERVICES = ("iomt-gateway", "iomt-receiver", "iomt-ca", "iomt-broker")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_with_its_shipped_unit_and_nothing_added(site: Site, service: str) -> None:
    assert site.box.show(service, "ActiveState") == "active"
    assert site.box.show(service, "DropInPaths") == ""
    shipped = site.path(f"/usr/lib/systemd/system/{service}.service")
    assert shipped.read_text() == (site.tree / "systemd" / shipped.name).read_text()


def test_what_the_wearables_measure_arrives_stored_and_live(site: Site) -> None:
    for backfilled in (True, False):
        until(
            lambda wanted=backfilled: any(row.backfilled is wanted for row in site.cloud.rows()),
            lambda: site.box.journal("iomt-gateway"),
        )
    site.judged()


def test_the_log_is_in_the_journal_with_its_fields_and_no_wearables_address(site: Site) -> None:
    def entries() -> list[dict[str, str]]:
        lines = site.box.run("journalctl", "--unit=iomt-gateway", "--output=json", "--no-pager").splitlines()
        return [json.loads(line) for line in lines]

    def linked() -> list[dict[str, str]]:
        return [each for each in entries() if each["MESSAGE"] == "link-up"]

    until(linked, lambda: site.box.journal("iomt-gateway"))
    assert {(each["PRIORITY"], each["IOMT_ROOM"]) for each in linked()} == {("6", "gateway.supervisor")}
    assert all(each["IOMT_DEVICE"].startswith("..:") for each in linked())
    assert "F0:00:00" not in json.dumps(entries())


def test_the_doctor_finds_nothing_to_mend_on_a_fresh_site_and_disturbs_no_connection(site: Site) -> None:
    def lost() -> list[str]:
        page = site.box.run("/usr/lib/iomt-gateway/bin/python", "-c", SCRAPE)
        return [line for line in page.splitlines() if line.startswith("iomt_gateway_uplink_reconnects_total{")]

    before = lost()
    for program in (GATEWAY_CLI, RECEIVER_CLI):
        told = json.loads(site.box.run(program, "doctor", "--json", check=False))
        assert [each for each in told["findings"] if each["level"] == "fail"] == []
        accepted = [each["evidence"] for each in told["findings"] if each["check"].endswith("client certificate")]
        assert accepted[0] == "accepted", "by the broker"
    assert lost() == before


def test_the_control_socket_answers_root(site: Site) -> None:
    assert site.asks("root")["online"] is True


def test_killed_it_is_back_in_seconds_and_nothing_that_was_durable_is_lost(site: Site) -> None:
    for _ in range(2):
        restarts = site.restarts("iomt-gateway")
        site.kill_gateway()
        site.wait_for_restart("iomt-gateway", restarts)
    assert site.judged().kills == 2


def test_a_receiver_that_is_killed_costs_nothing(site: Site) -> None:
    restarts = site.restarts("iomt-receiver")
    site.box.run("systemctl", "kill", "--signal=KILL", "iomt-receiver")
    site.wait_for_restart("iomt-receiver", restarts)
    site.judged()


def test_a_stop_is_orderly_and_within_its_time(site: Site) -> None:
    started = time.monotonic()
    site.box.run("systemctl", "stop", "iomt-gateway")
    taken_s = time.monotonic() - started
    assert site.box.show("iomt-gateway", "Result") == "success"
    assert site.box.show("iomt-gateway", "ExecMainStatus") == "0"
    assert "stopped in order" in site.box.journal("iomt-gateway")
    assert taken_s < 20
    site.box.run("systemctl", "start", "iomt-gateway")
    site.judged()


def test_one_that_cannot_start_is_tried_later_and_later_and_at_once_when_a_person_says_so(site: Site) -> None:
    config = site.path(CONFIG)
    text = config.read_text()
    config.write_text(text + "colour = 1\n")
    site.box.run("systemctl", "restart", "--no-block", "iomt-gateway")
    until(lambda: site.restarts("iomt-gateway") == 3, "it is not tried again")
    assert site.box.run("cat", "/run/iomt-gateway/failures").strip() == "3"
    config.write_text(text)
    site.box.run("systemctl", "restart", "iomt-gateway")
    site.box.run("test", "!", "-e", "/run/iomt-gateway/failures")
    site.judged()


def test_a_gateway_that_hangs_is_killed_by_the_watchdog_and_nothing_is_lost(site: Site) -> None:
    with site.drop_in("iomt-gateway", "[Service]\nWatchdogSec=2\n"):
        restarts = site.restarts("iomt-gateway")
        site.kill_gateway(signal.SIGSTOP)
        site.wait_for_restart("iomt-gateway", restarts)
        assert "Watchdog timeout" in site.box.journal("iomt-gateway")
    site.judged()
