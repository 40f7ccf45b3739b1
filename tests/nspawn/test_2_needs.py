"""What the gateway needs it still has: the bus, credentials, the adapter's reset, people's groups, one device."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.nspawn.acts import REFUSED
from tests.nspawn.bite import Bite, place_acts
from tests.nspawn.container import TREE, until
from tests.nspawn.site import CONFIG, GATEWAY, GATEWAY_CLI, STATE, Site

DROP_INS = TREE / "systemd/drop-ins/iomt-gateway"
SOCKET = "/run/iomt-gateway/control.sock"
CONTROL = f'[control]\nsocket = "{SOCKET}"\nviewer_group = "iomt-viewer"\n'


@contextmanager
def configured(site: Site, before: str, after: str) -> Iterator[None]:
    """Let the gateway run with another configuration."""
    config = site.path(CONFIG)
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    site.box.run("systemctl", "restart", "--no-block", "iomt-gateway")
    try:
        yield
    finally:
        config.write_text(text)
        site.box.run("systemctl", "restart", "iomt-gateway")


def test_it_speaks_with_bluez_on_the_system_bus(site: Site) -> None:
    radio = next(line for line in site.path(CONFIG).read_text().splitlines() if line.startswith("adapter = "))
    with configured(site, radio, 'adapter = "hci0"'):
        answer = "bluetoothd does not run"  # what the bus says in place of BlueZ, which has no kernel to work with here
        until(lambda: answer in site.box.journal("iomt-gateway"), lambda: site.box.journal("iomt-gateway"))


def test_it_may_ask_for_a_reset_of_the_adapter(site: Site) -> None:
    """What the unit starts tells what it is asked, as there is no adapter; all else is as shipped."""
    tool = site.path("/usr/bin/hciconfig")
    tool.write_text('#!/bin/sh\necho "hciconfig $*"\n')
    tool.chmod(0o755)
    site.box.run("systemctl", "start", "iomt-adapter-reset.path")
    site.box.run("runuser", "-u", "iomt-gateway", "--", "touch", "/run/iomt-gateway/adapter-reset")
    asked = ("hciconfig hci0 down", "hciconfig hci0 up")
    until(
        lambda: all(each in site.box.journal("iomt-adapter-reset") for each in asked),
        lambda: site.box.journal("iomt-adapter-reset"),
    )
    until(lambda: site.box.show("iomt-adapter-reset", "ActiveState") == "inactive", "it does not end")
    assert site.box.show("iomt-adapter-reset", "Result") == "success"
    site.box.run("systemctl", "stop", "iomt-adapter-reset.path")
    tool.unlink()


def test_people_have_the_roles_of_their_groups_where_the_drop_in_shows_them_and_else_it_does_not_start(
    site: Site,
) -> None:
    site.box.run("systemd-sysusers", "--inline", "u nurse -", "m nurse iomt-viewer", "u stranger -")
    with configured(site, "[control]\n", CONTROL):
        until(lambda: "groups.conf" in site.box.journal("iomt-gateway"), lambda: site.box.journal("iomt-gateway"))
        with site.drop_in("iomt-gateway", (DROP_INS / "groups.conf").read_text()):
            assert site.asks("nurse", socket=SOCKET)["gateway"] == GATEWAY
            assert site.asks("stranger", socket=SOCKET)["error"] == "forbidden"


def test_the_drop_in_for_a_tpm_shows_that_device_and_no_other(site: Site) -> None:
    """/dev/net/tun stands for /dev/tpmrm0, which no machine without a TPM has."""
    drop_in = (DROP_INS / "tpm.conf").read_text().replace("/dev/tpmrm0", "/dev/net/tun")
    lines = "\n".join(line for line in drop_in.splitlines() if "Group" not in line)
    place_acts(site.box)
    for name, text in {"shipped": "", "tpm": lines}.items():
        unit = Bite("open_a_device", ()).unit(without=()) + text
        site.path(f"/etc/systemd/system/device-{name}.service").write_text(unit)
    site.box.run("systemctl", "daemon-reload")
    site.box.run("systemctl", "start", "device-shipped", check=False)
    assert site.box.show("device-shipped", "ExecMainStatus") == str(REFUSED)
    site.box.run("systemctl", "start", "device-tpm")


def test_keys_that_systemd_decrypts_for_it_are_found_without_another_setting(site: Site) -> None:
    site.box.run(GATEWAY_CLI, "identity", "seal-keys", "--with-key", "host")
    assert not site.path(f"{STATE}/identity/tls.key").exists()
    config = site.path(CONFIG)
    config.write_text(config.read_text().replace('\nkeys = "file"', '\nkeys = "credential"'))
    site.box.run("systemctl", "restart", "iomt-gateway")
    until(lambda: site.asks("root")["online"], lambda: site.box.journal("iomt-gateway"))
    site.judged()
