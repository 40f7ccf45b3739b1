"""A Debian system that boots systemd in a container, with the services installed as a package would."""

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from packaging.requirements import Requirement

from tests import image

TREE = Path(__file__).resolve().parents[2]
PACKAGES = ("systemd-sysv", "dbus", "libnss-systemd", "python3", "mosquitto", "iproute2")
PROGRAMS = ("systemd-nspawn", "mmdebstrap", "nsenter")
EXTRAS = {"gateway": ("", "lab"), "receiver": ("", "receiver")}
"""What each is installed with; the virtual radio is in `lab`."""
_BOOT_S = 30.0
_COMMAND_S = 60.0
_NAME = "iomt-test"

_SCRIPT = """\
#!/usr/lib/iomt-{name}/bin/python
import sys
from gateway.cli.{module} import main
sys.exit(main())
"""


def missing() -> str | None:
    """What the container needs and this machine lacks."""
    if lacking := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"missing: {', '.join(lacking)}; apt install systemd-container mmdebstrap util-linux"
    if os.geteuid():
        return "only root boots a container"
    return None


class Container:
    """One that runs. `root` is its file system, seen from outside."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._leader = leader

    def run(self, *command: str, check: bool = True, timeout_s: float = _COMMAND_S) -> str:
        """What a command of the container's root says on both outputs. Fails with it, if `check`."""
        inside = ("nsenter", "--target", str(self._leader), "--all", "--wdns=/", *command)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            inside,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stdout}"
        return done.stdout

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", key, "--value", unit).strip()

    def journal(self, unit: str) -> str:
        """Everything that a unit, and systemd about it, said."""
        return self.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")


def until(condition: Callable[[], object], what: Callable[[], str] | str, *, timeout_s: float = 60.0) -> None:
    """Wait for a condition; fails with `what` is wrong."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.1)


@contextmanager
def booted(scratch: Path, install: Callable[[Path], None]) -> Iterator[Container]:
    """A container, with what `install` puts into its root before it boots; ends with the context."""
    base = image.cached("nspawn", repr(PACKAGES).encode(), lambda fresh: image.debian(PACKAGES, str(fresh)))
    with ExitStack() as stack:
        root = stack.enter_context(overlay(base, scratch))
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        install(root)
        cgroup = stack.enter_context(_cgroup())
        log = stack.enter_context((scratch / "console").open("wb"))
        process = subprocess.Popen(
            _command(root),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            # nspawn makes the container's cgroup below the one that it is started in.
            preexec_fn=lambda: (cgroup / "cgroup.procs").write_text(str(os.getpid())) and None,  # noqa: PLW1509
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        leader = _leader(process)
        container = Container(root, leader)
        states = ("running", "degraded")
        until(
            lambda: container.run("systemctl", "is-system-running", check=False).strip() in states,
            (scratch / "console").read_text,
            timeout_s=_BOOT_S,
        )
        yield container
        os.kill(leader, signal.SIGRTMIN + 3)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_BOOT_S)


def _command(root: Path) -> tuple[str, ...]:
    return (
        *("systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--register=no", "--keep-unit"),
        *("--private-network", "--console=pipe", "--kill-signal=SIGRTMIN+3", "--resolv-conf=off", "--timezone=off"),
        # For IPAddressDeny=, DeviceAllow= and the bind mounts of units: systemd loads BPF programs itself.
        *("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN"),
        f"--hostname={_NAME}",
    )


def _leader(process: subprocess.Popen[bytes]) -> int:
    """The container's first process, seen from outside."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found: list[str] = []

    def is_systemd() -> bool:
        found[:] = children.read_text().split()
        return bool(found) and Path(f"/proc/{found[0]}/comm").read_text().strip() == "systemd"

    until(is_systemd, "systemd does not start", timeout_s=_BOOT_S)
    return int(found[0])


@contextmanager
def overlay(base: Path, scratch: Path) -> Iterator[Path]:
    """`base` with a layer above it that takes every change."""
    scratch.chmod(0o755)
    # The upper layer of an overlay cannot be an overlay itself, as a container's disk is: both in memory.
    with _mounted(scratch / "layers", "tmpfs", "mode=755") as layers:
        upper, work = layers / "upper", layers / "work"
        upper.mkdir()
        work.mkdir()
        with _mounted(scratch / "root", "overlay", f"lowerdir={base},upperdir={upper},workdir={work}") as root:
            yield root


@contextmanager
def _mounted(place: Path, kind: str, options: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(("mount", "-t", kind, "-o", options, kind, place), check=True)
    try:
        yield place
    finally:
        subprocess.run(("umount", "--lazy", place), check=True)


@contextmanager
def _cgroup() -> Iterator[Path]:
    """A cgroup (version 2) of its own, gone at the end with what systemd made below it."""
    mounts = Path("/proc/self/mounts").read_text()
    mounted = re.search(r"^\S+ (\S+) cgroup2 ", mounts, re.MULTILINE)
    assert mounted, "no cgroup2 is mounted"
    place = Path(mounted[1], f"{_NAME}-{os.getpid()}")
    place.mkdir()
    try:
        yield place
    finally:
        for path in sorted((each for each in place.rglob("*") if each.is_dir()), reverse=True):
            path.rmdir()
        place.rmdir()


def _required(extras: Sequence[str]) -> Iterator[str]:
    """The packages that this project needs with these of its extras."""
    for each in map(Requirement, importlib.metadata.requires("iomt-gateway") or ()):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
            yield each.name


def as_packages(root: Path) -> None:
    """Everything that the packages of gateway and receiver would put there, and the virtual radio."""
    for name, scripts in {"gateway": ("gateway",), "receiver": ("receiver", "gateway")}.items():
        prefix = root / f"usr/lib/iomt-{name}"
        site = prefix / "lib/python3.11/site-packages"
        image.install(tuple(_required(EXTRAS[name])), site)
        for part in ("gateway", "certs", "config"):
            shutil.copytree(TREE / part, site / part, ignore=shutil.ignore_patterns("__pycache__"))
        (prefix / "bin").mkdir()
        (prefix / "bin/python").symlink_to("/usr/bin/python3")
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        for script in scripts:
            path = prefix / f"bin/iomt-{script}"
            path.write_text(_SCRIPT.format(name=name, module=script))
            path.chmod(0o755)
        (prefix / "libexec").mkdir()
        for helper in ("iomt-backoff", "iomt-adapter-reset"):
            shutil.copy(TREE / "systemd" / helper, prefix / "libexec")
        for kind in ("sysusers", "tmpfiles"):
            shutil.copy(TREE / f"systemd/iomt-{name}.{kind}", root / f"usr/lib/{kind}.d/iomt-{name}.conf")
    for unit in (*TREE.glob("systemd/*.service"), *TREE.glob("systemd/*.path")):
        shutil.copy(unit, root / "usr/lib/systemd/system")
    subprocess.run(("systemd-sysusers", f"--root={root}"), check=True, capture_output=True)
