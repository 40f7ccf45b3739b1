"""What a service that was taken over might try: `acts.py NAME`, in the container. Exit status: 0 done, 13 refused."""

import ctypes
import mmap
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REFUSED = 13
STATE = Path("/var/lib/iomt-gateway")
_LIBC = ctypes.CDLL(None, use_errno=True)
_KEYCTL, _CLONE_NEWUSER, _PER_LINUX32, _PTRACE_TRACEME = 250, 0x10000000, 8, 0
"""x86-64's number of keyctl(2), and constants of Linux."""
_GETPID_32 = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"
"""mov eax, 20; int 0x80; ret: getpid(2) as a 32-bit program calls it."""

ACTS: dict[str, Callable[[], object]] = {}


def act(function: Callable[[], object]) -> Callable[[], object]:
    ACTS[function.__name__] = function
    return function


def call(name: str, *arguments: object) -> None:
    """A function of the C library. Raises `OSError`."""
    if getattr(_LIBC, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def demand(allowed: object) -> None:
    if not allowed:
        raise PermissionError


@act
def write_elsewhere() -> None:
    Path(f"/srv/open/{os.getpid()}").write_text("")


@act
def write_to_usr() -> None:
    Path("/usr/lib/iomt-gateway/lib/python3.11/site-packages/gateway/open/file").write_text("")


@act
def read_home() -> None:
    Path("/home/patient/letter").read_text()


@act
def read_tmp_of_others() -> None:
    Path("/tmp/others").read_text()  # noqa: S108 - what is tried


@act
def see_a_device() -> None:
    Path("/dev/net/tun").stat()


@act
def open_a_device() -> None:
    os.close(os.open("/dev/net/tun", os.O_RDWR))


@act
def open_netlink() -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@act
def write_and_execute_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


@act
def call_as_32_bit() -> None:
    if os.fork() == 0:
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(_GETPID_32)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        found = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        os._exit(0 if found == os.getpid() else 1)
    demand(os.wait()[1] == 0)


@act
def trace() -> None:
    call("ptrace", _PTRACE_TRACEME, 0, None, None)


@act
def become_who_it_is() -> None:
    os.setuid(os.getuid())


@act
def choose_processors() -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(0))


@act
def give_a_file_away() -> None:
    path = STATE / "given"
    path.touch()
    os.chown(path, os.getuid(), os.getgid())


@act
def use_keyrings() -> None:
    call("syscall", _KEYCTL, 0, -3, 1)


@act
def gain_privileges() -> None:
    done = subprocess.run(("/usr/bin/id-of-root", "-u"), capture_output=True, check=True)
    demand(done.stdout.strip() == b"0")


@act
def have_capabilities() -> None:
    status = Path("/proc/self/status").read_text()
    demand(int(status.partition("CapBnd:")[2].split()[0], 16))


@act
def read_what_root_hides() -> None:
    Path("/srv/hidden").read_text()


@act
def see_users() -> None:
    demand(Path("/srv/of-somebody").stat().st_uid == 1234)


@act
def change_tunables() -> None:
    demand(os.access("/proc/irq", os.W_OK))


@act
def list_modules() -> None:
    list(Path("/usr/lib/modules").iterdir())


@act
def make_a_cgroup() -> None:
    Path("/sys/fs/cgroup/made").mkdir()
    Path("/sys/fs/cgroup/made").rmdir()


@act
def see_processes() -> None:
    Path("/proc/1/status").read_text()


@act
def see_the_machine() -> None:
    Path("/proc/uptime").read_text()


@act
def rename_the_machine() -> None:
    name = os.uname().nodename.encode()
    call("sethostname", name, len(name))


@act
def make_a_namespace() -> None:
    call("unshare", _CLONE_NEWUSER)


@act
def run_in_real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@act
def make_a_setuid_program() -> None:
    path = STATE / "setuid"
    path.touch()
    path.chmod(0o4755)
    path.unlink()


@act
def change_personality() -> None:
    call("personality", _PER_LINUX32)


@act
def share_memory() -> None:
    call("shmget", 0x1234, 0, 0)


@act
def leave_readable_files() -> None:
    path = STATE / "readable"
    path.unlink(missing_ok=True)
    path.touch()
    demand(stat.S_IMODE(path.stat().st_mode) & 0o044)


@act
def dump_core() -> None:
    demand(resource.getrlimit(resource.RLIMIT_CORE)[1])


def run_from(directory: Path) -> None:
    path = directory / "program"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    try:
        subprocess.run((path,), check=True)
    finally:
        path.unlink()


@act
def run_what_it_wrote() -> None:
    run_from(STATE)


@act
def run_what_it_wrote_to_tmp() -> None:
    run_from(Path("/tmp"))  # noqa: S108 - what is tried


@act
def run_what_it_wrote_to_run() -> None:
    run_from(Path("/run/iomt-gateway"))


@act
def use_shared_memory() -> None:
    Path(f"/dev/shm/{os.getpid()}").write_text("")  # noqa: S108 - what is tried


@act
def reach_the_internet() -> None:
    socket.create_connection(("198.51.100.1", 8883), 2).close()


@act
def reach_the_site() -> None:
    socket.create_connection(("10.1.2.3", 8883), 2).close()


@act
def read_the_ca() -> None:
    Path("/var/lib/iomt-site/offline/root.key").read_text()


def main() -> int:
    try:
        ACTS[sys.argv[1]]()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error!r}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
