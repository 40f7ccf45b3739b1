"""The ruleset in force: a box and what is around it, in two network namespaces; each refusal with its counterpart."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REACH = Path(__file__).with_name("reach.py")
BOX, CLOUD, MONITOR, STRANGER = "192.0.2.1", "192.0.2.2", "192.0.2.65", "192.0.2.129"
BOX6, CLOUD6, STRANGER6 = "2001:db8::1", "2001:db8::2", "2001:db8::ff"
CONFIG = f"""
[gateway]
id = "gw-001"
state_dir = "state"
[identity]
enrolment = "https://{CLOUD}:8443"
[uplink]
endpoints = ["{CLOUD}:8883", "[{CLOUD6}]:8883"]
[metrics]
listen = "0.0.0.0:9464"
tls_ca = "ca"
tls_cert = "cert"
tls_key = "key"
[firewall]
dns = ["{CLOUD}"]
ntp = ["{CLOUD}", "2001:db8::/126"]
outbound = ["{CLOUD}:6514"]
monitoring = ["192.0.2.64/26"]
ssh = ["192.0.2.64/26"]
"""
ALLOWED_OUT = [
    *(f"tcp:{CLOUD}:{port}" for port in (8883, 8443, 53, 6514)),
    *(f"udp:{CLOUD}:{port}" for port in (53, 123)),
    f"tcp:{CLOUD6}:8883",
    f"udp:{CLOUD6}:123",
]
REFUSED_OUT = [f"tcp:{CLOUD}:22", f"udp:{CLOUD}:5353", f"tcp:{STRANGER}:8883", f"udp:{STRANGER6}:123"]
METRICS, SSH, OTHER = f"tcp:{BOX}:9464", f"tcp:{BOX}:22", f"tcp:{BOX}:8080"


class Space:
    """A network namespace with one end of a cable."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, given: str = "") -> str:
        whole = ["ip", "netns", "exec", self.name, *command]
        done = subprocess.run(whole, input=given, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *places: str, source: str) -> dict[str, str]:
        answers: dict[str, str] = json.loads(self.run(sys.executable, str(REACH), "ask", source, *places))
        return answers

    @contextmanager
    def listening(self, *places: str) -> Iterator[None]:
        command = ["ip", "netns", "exec", self.name, sys.executable, str(REACH), "listen", *places]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield
            finally:
                process.terminate()


@pytest.fixture
def cable() -> Iterator[tuple[Space, Space]]:
    """A box, and everything around it, before any ruleset."""
    for program in ("nft", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: install nftables and iproute2")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    box, around = (Space(f"iomt-{os.getpid()}-{name}") for name in ("box", "around"))
    with ExitStack() as undo:
        for space in (box, around):
            subprocess.run(["ip", "netns", "add", space.name], check=True)
            undo.callback(subprocess.run, ["ip", "netns", "delete", space.name], check=True)
        box.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", around.name)
        for space, addresses in (
            (box, (f"{BOX}/24", f"{BOX6}/64")),
            (around, (*(f"{each}/24" for each in (CLOUD, MONITOR, STRANGER)), f"{CLOUD6}/64", f"{STRANGER6}/64")),
        ):
            for address in addresses:
                extra = ["nodad"] if ":" in address else []
                space.run("ip", "address", "add", address, "dev", "eth0", *extra)
            space.run("ip", "link", "set", "lo", "up")
            space.run("ip", "link", "set", "eth0", "up")
        undo.enter_context(around.listening(*ALLOWED_OUT, *REFUSED_OUT))
        undo.enter_context(box.listening(METRICS, SSH, OTHER))
        yield box, around


@pytest.fixture
def ruleset(tmp_path: Path) -> str:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG)
    command = [sys.executable, "-m", "gateway.cli.gateway", "firewall", "print", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def everything(box: Space, around: Space) -> dict[str, str]:
    entering = {
        f"{place} from {source}": how
        for source in (MONITOR, STRANGER)
        for place, how in around.ask(METRICS, SSH, OTHER, source=source).items()
    }
    four = [place for place in ALLOWED_OUT + REFUSED_OUT if "db8" not in place]
    six = [place for place in ALLOWED_OUT + REFUSED_OUT if "db8" in place]
    return box.ask(*four, source=BOX) | box.ask(*six, source=BOX6) | entering


def test_what_is_needed_passes_and_nothing_else_does(cable: tuple[Space, Space], ruleset: str) -> None:
    box, around = cable
    assert set(everything(box, around).values()) == {"answered"}, "without a ruleset everything passes"
    box.run("nft", "-f", "-", given=ruleset)
    after = everything(box, around)
    passed = {place for place, how in after.items() if how == "answered"}
    assert passed == {*ALLOWED_OUT, f"{METRICS} from {MONITOR}", f"{SSH} from {MONITOR}"}
    assert {after[place] for place in REFUSED_OUT} == {"refused"}, "a program on the box is told at once"
    assert {how for place, how in after.items() if "from" in place and place not in passed} == {"silent"}
    assert "answered" in box.ask(SSH, source=BOX).values(), "the box reaches itself"


def test_loading_it_again_replaces_it_and_nothing_is_open_in_between(cable: tuple[Space, Space], ruleset: str) -> None:
    box, _ = cable
    for _ in range(2):
        box.run("nft", "-f", "-", given=ruleset.replace("8883", "8884", 1))
    assert box.run("nft", "list", "ruleset").count("chain output") == 1
    box.run("nft", "-f", "-", given=ruleset)
    assert "8884" not in box.run("nft", "list", "ruleset")
    assert box.ask(ALLOWED_OUT[0], source=BOX) == {ALLOWED_OUT[0]: "answered"}
