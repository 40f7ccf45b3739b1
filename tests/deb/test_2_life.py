"""A site's life with the packages, under systemd: each test goes on where the one before ended."""

import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from gateway.lab import postgres
from gateway.outbox.outbox import list_bundles
from tests.deb.conftest import Machine
from tests.nspawn.container import until
from tests.nspawn.site import CONFIG, SITE, STATE

UNITS = ("iomt-gateway", "iomt-receiver", "iomt-ca", "iomt-broker")
BACKLOG = 40
"""Bundles that wait through an upgrade."""


def waiting(machine: Machine) -> set[tuple[bytes, int]]:
    """Bundles on the gateway's disk that the receiver does not have."""
    on_disk = {(link.chain, link.no) for link, _ in list_bundles(machine.path(f"{STATE}/outbox"))}
    return on_disk - set(machine.cloud.bundles())


def test_installed_and_not_configured_nothing_starts_and_nothing_fails(machine: Machine) -> None:
    said = machine.install("iomt-gateway", "iomt-receiver")
    assert "iomt-receiver init /var/lib/iomt-site --host NAME" in said
    assert "iomt-gateway enrol" in said
    for unit in UNITS:
        assert machine.box.run("systemctl", "is-enabled", unit).strip() == "enabled"
        assert (machine.state(unit), machine.box.show(unit, "ConditionResult")) == ("inactive", "no")
    assert machine.box.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "iomt-*").strip() == ""
    assert machine.box.run("iomt-gateway", "--version").startswith("iomt-gateway ")
    assert machine.box.run("stat", "-c", "%U %a", STATE).split() == ["iomt-gateway", "700"]


def test_a_site_is_one_command_and_a_gateway_is_one_more(machine: Machine) -> None:
    machine.set_up()
    for unit in UNITS:
        assert machine.state(unit) == "active"
    machine.judged()


def test_a_changed_configuration_needs_a_restart_and_nothing_else(machine: Machine) -> None:
    config = machine.path(CONFIG)
    text = config.read_text().replace("# offline_tick_ms = 2000", "offline_tick_ms = 100")
    config.write_text(text.replace("# receipt_timeout_s = 30.0", "receipt_timeout_s = 3.0"))
    machine.box.run("systemctl", "restart", "iomt-gateway")
    machine.judged()


def test_an_upgrade_with_a_full_outbox_loses_nothing(machine: Machine) -> None:
    machine.box.run("systemctl", "stop", "iomt-broker")
    until(lambda: len(waiting(machine)) >= BACKLOG, "the outbox does not fill")
    before = waiting(machine)
    process = machine.box.show("iomt-gateway", "MainPID")
    machine.install("iomt-gateway", revision="2")
    until(lambda: machine.state("iomt-gateway") == "active", lambda: machine.box.journal("iomt-gateway"))
    assert machine.box.show("iomt-gateway", "MainPID") != process
    assert "stopped in order" in machine.box.journal("iomt-gateway")
    assert before <= waiting(machine), "something went between"
    machine.box.run("systemctl", "start", "iomt-broker")
    until(lambda: not before & waiting(machine), "what waited does not arrive")
    machine.judged()


def test_an_upgrade_of_the_receiver_loses_nothing(machine: Machine) -> None:
    machine.install("iomt-receiver", revision="2")
    for unit in UNITS:
        until(lambda unit=unit: machine.state(unit) == "active", lambda unit=unit: machine.box.journal(unit))
    machine.judged()


def test_an_upgrade_that_fails_leaves_what_was_there_running(machine: Machine, tmp_path: Path) -> None:
    control = tmp_path / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        "Package: iomt-gateway\nVersion: 99\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    )
    (control / "preinst").write_text("#!/bin/sh\nexit 1\n")
    (control / "preinst").chmod(0o755)
    target = machine.path("/debs/broken.deb")
    subprocess.run(("dpkg-deb", "--root-owner-group", "--build", tmp_path, target), check=True)
    process = machine.box.show("iomt-gateway", "MainPID")
    said = machine.box.run("dpkg", "-i", "/debs/broken.deb", check=False)
    assert "error processing archive /debs/broken.deb" in said
    assert machine.state("iomt-gateway") == "active", said
    assert machine.box.show("iomt-gateway", "MainPID") != process, "it was never stopped"


def test_a_removal_keeps_keys_and_outbox_and_says_what_waits(machine: Machine) -> None:
    machine.box.run("systemctl", "stop", "iomt-broker")
    until(lambda: waiting(machine), "nothing waits")
    said = machine.box.run("dpkg", "--remove", "iomt-gateway")
    assert "keys and outbox stay" in said
    assert "bundles" in said
    kept = waiting(machine)
    assert kept
    assert machine.path(f"{STATE}/identity").is_dir()
    assert not machine.path("/usr/bin/iomt-gateway").is_symlink()
    machine.box.run("systemctl", "start", "iomt-broker")
    machine.install("iomt-gateway", revision="2")
    until(lambda: not kept & waiting(machine), lambda: machine.box.journal("iomt-gateway"))


def test_a_purge_warns_and_erases_the_gateways_state_alone(machine: Machine) -> None:
    said = machine.box.run("dpkg", "--purge", "iomt-gateway")
    assert "WARNING: erases /var/lib/iomt-gateway" in said
    assert "iomt-receiver ca revoke" in said
    assert not machine.path(STATE).exists()
    assert not machine.path(CONFIG).exists()
    assert machine.state("iomt-receiver") == "active"


def test_with_postgresql_it_is_an_address_a_migration_and_a_restart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if postgres.program("postgres") is None:
        pytest.skip("PostgreSQL is not installed; on Debian: apt install postgresql")
    shared = machine.path("/var/lib/shared")
    shared.mkdir()
    machine.box.root.parent.chmod(0o711)  # for PostgreSQL's account, outside
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    with postgres.Cluster() as cluster, psycopg.connect(cluster.url(), autocommit=True) as outside:
        directory = Path(cluster.url().partition("host=")[2])
        directory.chmod(0o755)
        inside = f"@/iomt?host=/var/lib/shared/{directory.name}"
        outside.execute("CREATE DATABASE iomt")
        config = machine.path(f"{SITE}/receiver.toml")
        config.write_text(config.read_text() + f'\n[store]\nurl = "postgresql://worker{inside}"\n')
        machine.box.run("iomt-receiver", "store", "migrate", "--owner", f"postgresql://postgres{inside}")
        outside.execute("CREATE ROLE worker LOGIN IN ROLE iomt_worker")
        machine.box.run("systemctl", "restart", "iomt-receiver")
        machine.install("iomt-gateway", revision="2")
        enrol = machine.box.run("iomt-receiver", "ca", "otp", SITE, "gw-002")
        machine.box.run(*enrol.splitlines()[-1].split())
        config = machine.path(CONFIG)
        config.write_text(config.read_text().replace('# adapter = "hci0"', 'adapter = "none"'))
        machine.box.run("systemctl", "start", "iomt-gateway")
        with psycopg.connect(cluster.url("iomt"), autocommit=True) as store:
            query = "SELECT count(*) FROM iomt.events"
            until(lambda: store.execute(query).fetchone() != (0,), lambda: machine.box.journal("iomt-receiver"))
        machine.box.run("dpkg", "--purge", "iomt-gateway")
        machine.box.run("systemctl", "stop", "iomt-receiver")


def test_a_purge_of_the_receiver_keeps_what_it_received(machine: Machine) -> None:
    said = machine.box.run("dpkg", "--purge", "iomt-receiver")
    assert f"WARNING: {SITE} is kept" in said
    assert machine.path(f"{SITE}/receiver/state/receiver.db").exists()
    assert not machine.path("/etc/iomt-gateway").exists()
    assert machine.box.run("systemctl", "list-unit-files", "--no-legend", "iomt-*", check=False).strip() == ""
