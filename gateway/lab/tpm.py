"""A TPM 2.0 in software (swtpm), behind a resource manager (tpm2-abrmd) on a message bus of its own."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gateway.errors import ConfigError
from gateway.lab.site import free_port

TCTI = "tabrmd:bus_type=session"
_PROGRAMS = ("swtpm", "dbus-daemon", "tpm2-abrmd")
_BUS = "DBUS_SESSION_BUS_ADDRESS"
_READY_S = 20.0


def missing() -> str | None:
    """What has to be installed before there can be one; None if nothing is missing."""
    absent = [each for each in _PROGRAMS if shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    try:
        import tpm2_pytss  # noqa: F401 - whether it can be
    except ImportError as error:
        absent.append(f"tpm2-pytss ({error})")
    return ", ".join(absent) or None


@contextmanager
def software_tpm(directory: Path) -> Iterator[str]:
    """Run one, whose state lies in `directory`, and tell how to reach it; children of this process reach it too.

    Raises `ConfigError` if a program is missing or does not become ready.
    """
    if (absent := missing()) is not None:
        raise ConfigError(f"no TPM in software: {absent} is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    bus, port = directory / "bus", free_port()
    server, control = (f"type=tcp,bindaddr=127.0.0.1,port={each}" for each in (port, port + 1))  # tss2-tcti-swtpm(7)
    state = ("--tpmstate", f"dir={directory}", "--flags", "not-need-init,startup-clear")
    before = os.environ.get(_BUS)
    with ExitStack() as undo:
        undo.callback(_restore, before)
        os.environ[_BUS] = f"unix:path={bus}"
        _start(undo, directory, "swtpm", "socket", "--tpm2", *state, "--server", server, "--ctrl", control)
        _start(undo, directory, "dbus-daemon", "--session", "--nofork", f"--address={os.environ[_BUS]}")
        _until(bus.exists, directory / "dbus-daemon.log")
        manager = ("--allow-root", "--session", f"--tcti=swtpm:host=127.0.0.1,port={port}")
        _start(undo, directory, "tpm2-abrmd", *manager)
        _until(_answers, directory / "tpm2-abrmd.log")
        yield TCTI


def _start(undo: ExitStack, directory: Path, program: str, *arguments: str) -> None:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") or program
    with (directory / f"{program}.log").open("wb") as log:
        process = subprocess.Popen((found, *arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    undo.callback(process.wait)
    undo.callback(process.terminate)


def _until(ready: Callable[[], bool], log: Path) -> None:
    deadline_s = time.monotonic() + _READY_S
    while not ready():
        if time.monotonic() > deadline_s:
            raise ConfigError(f"no TPM in software: {log.stem} is not ready: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.05)


def _answers() -> bool:
    from tpm2_pytss import ESAPI, TSS2_Exception

    os.environ.setdefault("TSS2_LOG", "all+none")
    try:
        ESAPI(TCTI).close()
    except TSS2_Exception:
        return False
    return True


def _restore(before: str | None) -> None:
    os.environ.pop(_BUS)
    if before is not None:
        os.environ[_BUS] = before
