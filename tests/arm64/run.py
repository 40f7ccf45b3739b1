"""Run the arm64 package under emulation: `python -m tests.arm64.run [pytest arguments]`.

In Debian 12 for arm64: the commands of docs/raspberry-pi.md, the tests of the rooms that decode, seal and keep, and the
demo, all by the package's own Python environment; says how long each took. The base system is kept in the cache
directory. Emulation by qemu-user: right about behaviour, wrong about speed.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.observe.advisories import pinned
from ship.packages import ARCHITECTURES, PACKAGES, PYTHON, ROOT
from tests import image
from tests.nspawn.container import overlay

SYSTEM = ("python3.11", "systemd")
PROGRAMS = ("mmdebstrap", "arch-test", "qemu-aarch64-static", "dpkg-deb", "unshare")
LIBRARIES = ("bumble", "amqtt", "rich", "pytest", "pytest-asyncio", "hypothesis")
"""What the demo and the tests need, and the package does not hold."""
SUITE = ("tests/health", "tests/envelope", "tests/outbox")
TIMED = (
    "tests/outbox/test_kill.py::test_no_synced_bundle_is_lost_by_sigkill_at_random_moments",
    "tests/envelope/test_open.py::test_deriving_the_last_step_takes_bounded_time",
    "tests/envelope/test_records.py::test_decoding_makes_no_object_a_record",
)
"""Tests that bound a processor's time, or kill within the first 0.12 s: under emulation everything takes longer."""
DEMO_S = 240
BINFMT = Path("/proc/sys/fs/binfmt_misc")
HOME = PACKAGES[0].home
APP = Path("/opt/app")


@contextmanager
def emulation() -> Iterator[None]:
    """Let the kernel start arm64 programs; undone at the end, if it was done here."""
    mounted = not (BINFMT / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
    entry = BINFMT / "qemu-aarch64"
    registered = not entry.exists()
    if registered:
        (BINFMT / "register").write_bytes(Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_bytes())
    try:
        yield
    finally:
        if registered:
            entry.write_text("-1")
        if mounted:
            subprocess.run(["umount", BINFMT], check=True)


class Machine:
    """A root directory for arm64, and what was done in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._times: list[tuple[str, float, float]] = []

    def run(self, what: str, *command: str, cwd: str = "/") -> None:
        """Run a command there, in a process tree of its own; raises if it fails."""
        print(f"{what} ...", flush=True)
        started, used = time.monotonic(), processor_s()
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self._root}/proc"]
        inside = ["chroot", str(self._root), "env", f"--chdir={cwd}", *command]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        subprocess.run([*apart, *inside], check=True, env=environment)
        self._times.append((what, time.monotonic() - started, processor_s() - used))

    def tell(self) -> None:
        """Print how long each took, and how much of it a processor worked."""
        for what, seconds, used in self._times:
            print(f"{seconds:7.0f} s, {used:5.0f} s of processor time: {what}")


def processor_s() -> float:
    """What the children that have ended used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands(page: str) -> Iterator[str]:
    """The blocks of a page that are to be run."""
    return (match[1] for match in re.finditer(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def prepare(root: Path, scratch: Path) -> None:
    """Put package, libraries of the lab, and tests into `root`."""
    options = ["--architecture", "arm64", "--package", "iomt-gateway", "--out", str(scratch)]
    subprocess.run([sys.executable, "-m", "ship.deb", *options], check=True, cwd=ROOT)
    shutil.copy(next(scratch.glob("*.deb")), root / "iomt-gateway.deb")
    requirements = scratch / "lab.txt"
    requirements.write_text(locked(LIBRARIES))
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--python-version", PYTHON, "--python-platform", ARCHITECTURES["arm64"]]
    command += ["--target", str(root / "opt/lab"), "--requirements", str(requirements)]
    subprocess.run(command, check=True)
    app = root / APP.relative_to("/")
    for part in ("tests", "docs", "config"):
        shutil.copytree(ROOT / part, app / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", app)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")


def locked(names: tuple[str, ...]) -> str:
    """What of the whole lock these packages need and the gateway's package does not hold."""
    wanted = image.closure(names).keys() - pinned((ROOT / "requirements/base.txt").read_text()).keys()
    blocks = re.split(r"^(?=\S)", (ROOT / "requirements/all.txt").read_text(), flags=re.MULTILINE)
    return "".join(block for block in blocks if pinned(block).keys() & wanted)


def main() -> int:
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        print(f"missing: {', '.join(missing)}; apt install mmdebstrap arch-test qemu-user-static", file=sys.stderr)
        return 2
    if os.geteuid():
        print("only root changes root and registers an emulator", file=sys.stderr)
        return 2
    with emulation(), tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        base = image.cached(
            "arm64", repr(SYSTEM).encode(), lambda fresh: image.debian(SYSTEM, str(fresh), "--arch=arm64")
        )
        with overlay(base, scratch) as root:
            prepare(root, scratch)
            machine = Machine(root)
            for number, block in enumerate(commands((ROOT / "docs/raspberry-pi.md").read_text()), 1):
                machine.run(f"docs/raspberry-pi.md, block {number}", "sh", "-ec", block)
            site = root / HOME.relative_to("/") / f"lib/python{PYTHON}/site-packages"
            (site / "lab.pth").write_text("/opt/lab\n")  # after what is shipped, so never in its place
            python = str(HOME / "bin/python")
            for part in sys.argv[1:] or SUITE:
                timed = [word for test in TIMED for word in ("--deselect", test)]
                machine.run(part, python, "-m", "pytest", "-p", "no:cacheprovider", *timed, part, cwd=str(APP))
            demo = ("-m", "gateway.lab.demo", "--duration", str(DEMO_S), "--json")
            machine.run(f"demo of {DEMO_S} s", python, *demo, cwd="/tmp")  # noqa: S108 - inside the root
            machine.tell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
