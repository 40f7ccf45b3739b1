"""Every directive bites: what it forbids is refused under the shipped unit and done under the same without it."""

from collections.abc import Iterator

import pytest

from tests.nspawn.acts import REFUSED
from tests.nspawn.bite import Bite, place_acts
from tests.nspawn.container import Container
from tests.nspawn.site import GATEWAY_CLI, Site

_FILTERS = ("SystemCallFilter", "SystemCallArchitectures", "SystemCallErrorNumber")
_GAINS_NOTHING = (
    *("NoNewPrivileges", *_FILTERS, "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime"),
    *("RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "PrivateDevices", "ProtectClock"),
    *("ProtectHostname", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs"),
)
"""Each of them alone sees to it that no program that is run gains privileges (systemd.exec(5))."""
_AS_ROOT = ("User", "Group", "PrivateUsers", "CapabilityBoundingSet", "AmbientCapabilities")
"""Left out, the service is an all-powerful root: shows what is refused even then."""


BITES = (
    Bite("write_elsewhere", ("ProtectSystem",)),
    Bite("write_to_usr", ("ProtectSystem",)),
    Bite("read_home", ("ProtectHome",)),
    Bite("read_tmp_of_others", ("PrivateTmp",)),
    Bite("see_a_device", ("PrivateDevices",)),
    Bite("open_a_device", ("DevicePolicy", "ProtectClock"), besides=("PrivateDevices",)),
    Bite("open_netlink", ("RestrictAddressFamilies",)),
    Bite("write_and_execute_memory", ("MemoryDenyWriteExecute",)),
    Bite("call_as_32_bit", ("SystemCallArchitectures",), besides=("MemoryDenyWriteExecute",)),
    Bite("trace", ("SystemCallFilter",)),
    Bite("become_who_it_is", ("SystemCallFilter",)),
    Bite("choose_processors", ("SystemCallFilter",)),
    Bite("give_a_file_away", ("SystemCallFilter",)),
    Bite("gain_privileges", _GAINS_NOTHING, besides=("PrivateUsers", "NoExecPaths")),
    Bite("have_capabilities", ("CapabilityBoundingSet", "PrivateUsers")),
    Bite(
        "read_what_root_hides",
        ("CapabilityBoundingSet",),
        besides=("User", "Group", "PrivateUsers", "AmbientCapabilities"),
    ),
    Bite("see_users", ("PrivateUsers",)),
    Bite("change_tunables", ("ProtectKernelTunables",), besides=_AS_ROOT),
    Bite("list_modules", ("ProtectKernelModules",)),
    Bite("make_a_cgroup", ("ProtectControlGroups",), besides=_AS_ROOT),
    Bite("see_processes", ("ProtectProc",)),
    Bite("see_the_machine", ("ProcSubset",), service="receiver"),
    Bite("rename_the_machine", ("ProtectHostname", "SystemCallFilter"), besides=_AS_ROOT),
    Bite("make_a_namespace", ("RestrictNamespaces",)),
    Bite("run_in_real_time", ("RestrictRealtime", "SystemCallFilter"), besides=_AS_ROOT),
    Bite("make_a_setuid_program", ("RestrictSUIDSGID",)),
    Bite("change_personality", ("LockPersonality",)),
    Bite("share_memory", ("PrivateIPC",)),
    Bite("leave_readable_files", ("UMask",)),
    Bite("dump_core", ("LimitCORE",)),
    Bite("run_what_it_wrote", ("NoExecPaths",)),
    Bite("run_what_it_wrote_to_tmp", ("NoExecPaths",)),
    Bite("run_what_it_wrote_to_run", ("NoExecPaths",)),
    Bite("use_shared_memory", ("InaccessiblePaths",)),
    Bite("reach_the_internet", ("IPAddressDeny", "IPAddressAllow")),
    Bite("reach_the_site", ("IPAddressDeny", "IPAddressAllow"), service="receiver"),
    Bite("read_the_ca", ("InaccessiblePaths",), besides=_AS_ROOT, service="receiver"),
    Bite("read_the_ca", ("InaccessiblePaths",), besides=_AS_ROOT, service="api"),
    Bite("read_the_ca", ("InaccessiblePaths",), service="ca"),
    Bite("see_the_machine", ("ProcSubset",), service="api"),
    Bite("see_the_machine", ("ProcSubset",), service="ca"),
    Bite("reach_the_internet", ("IPAddressDeny", "IPAddressAllow"), service="api"),
    *(
        Bite(act, directives, service=service)
        for service in ("receiver", "api")
        for act, directives in {
            "have_capabilities": ("CapabilityBoundingSet", "PrivateUsers"),
            "see_users": ("PrivateUsers",),
            "see_processes": ("ProtectProc",),
            "list_modules": ("ProtectKernelModules",),
        }.items()
    ),
    *(
        Bite(act, directives, service=service)
        for service in ("receiver", "api", "ca")
        for act, directives in {
            "write_elsewhere": ("ProtectSystem",),
            "read_home": ("ProtectHome",),
            "read_tmp_of_others": ("PrivateTmp",),
            "see_a_device": ("PrivateDevices",),
            "open_netlink": ("RestrictAddressFamilies",),
            "write_and_execute_memory": ("MemoryDenyWriteExecute",),
            "trace": ("SystemCallFilter",),
            "make_a_namespace": ("RestrictNamespaces",),
            "change_personality": ("LockPersonality",),
            "share_memory": ("PrivateIPC",),
            "dump_core": ("LimitCORE",),
            "use_shared_memory": ("InaccessiblePaths",),
        }.items()
    ),
)


def unit(number: int, kind: str) -> str:
    return f"bite-{number}-{kind}"


@pytest.fixture(scope="module")
def world(site: Site) -> Iterator[Container]:
    """What the acts find in the container."""
    box, root = site.box, site.box.root
    for name, mode in {"srv/open": 0o777, "home/patient": 0o755, "usr/lib/modules": 0o755}.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    box.run("sh", "-ec", _WORLD)
    box.run("systemd-run", "--unit=listener", "/usr/bin/python3", "-c", _LISTENER)
    place_acts(box)
    for number, bite in enumerate(BITES):
        for kind, without in (("with", bite.besides), ("without", (*bite.besides, *bite.directives))):
            (root / f"etc/systemd/system/{unit(number, kind)}.service").write_text(bite.unit(without=without))
    box.run("systemctl", "daemon-reload")
    for kind in ("with", "without"):
        box.run("systemctl", "start", *(unit(number, kind) for number in range(len(BITES))), check=False)
    yield box
    box.run("systemctl", "stop", "listener")


_WORLD = """
echo letter >/home/patient/letter
echo others >/tmp/others
mkdir -m 777 /usr/lib/iomt-gateway/lib/python3.11/site-packages/gateway/open
touch /srv/hidden /srv/of-somebody
chown 1234 /srv/hidden /srv/of-somebody
chmod 600 /srv/hidden
cp /usr/bin/id /usr/bin/id-of-root
chmod 4755 /usr/bin/id-of-root
python3 -c 'import ctypes; assert ctypes.CDLL(None).shmget(0x1234, 4096, 0o1666) >= 0'
ip addr add 198.51.100.1/32 dev lo
ip addr add 10.1.2.3/32 dev lo
"""
_LISTENER = """
import socket
for address in ("198.51.100.1", "10.1.2.3"):
    globals()[address] = socket.create_server((address, 8883))
import signal
signal.pause()
"""


@pytest.fixture(scope="module")
def ended(world: Container) -> dict[str, int]:
    """The exit status of each unit, asked for at once."""
    names = [unit(number, kind) for number in range(len(BITES)) for kind in ("with", "without")]
    told = world.run("systemctl", "show", "--property=ExecMainStatus", "--value", *names)
    return dict(zip(names, map(int, told.split()), strict=True))


@pytest.mark.parametrize(
    "number",
    range(len(BITES)),
    ids=lambda number: f"{BITES[number].service}-{BITES[number].act}-{BITES[number].directives[0]}",
)
def test_it_bites(world: Container, ended: dict[str, int], number: int) -> None:
    tried = [ended[unit(number, kind)] for kind in ("with", "without")]
    assert tried == [REFUSED, 0], world.run("journalctl", "-u", f"bite-{number}-*", "-o", "cat", "--no-pager")


def test_what_the_site_needs_is_not_refused_and_a_drop_in_narrows_it_to_what_is_configured(world: Container) -> None:
    config = (world.root / "etc/iomt-gateway/gateway.toml").read_text()
    (world.root / "etc/elsewhere.toml").write_text(config.replace("localhost:8883", "198.51.100.1:8883"))
    addresses = world.run(GATEWAY_CLI, "firewall", "print", "--unit", "--config", "/etc/elsewhere.toml").splitlines()
    drop_in = "\n".join(line for line in addresses if line.startswith("IPAddressAllow="))
    tried = {}
    for act in ("reach_the_site", "reach_the_internet"):
        for kind, added in {"shipped": "", "narrowed": drop_in}.items():
            name = f"{act}-{kind}".replace("_", "-")
            (world.root / f"etc/systemd/system/{name}.service").write_text(Bite(act, ()).unit(without=()) + added)
            tried[act, kind] = name
    world.run("systemctl", "daemon-reload")
    world.run("systemctl", "start", *tried.values(), check=False)
    assert {key: int(world.show(name, "ExecMainStatus")) for key, name in tried.items()} == {
        ("reach_the_site", "shipped"): 0,
        ("reach_the_site", "narrowed"): REFUSED,
        ("reach_the_internet", "shipped"): REFUSED,
        ("reach_the_internet", "narrowed"): 0,
    }
