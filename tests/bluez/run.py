"""Boot Debian's kernel with BlueZ in QEMU and run `tests/bluez/guest` there: `python -m tests.bluez.run [pytest args]`.

The base system is built from Debian's packages once and kept in the cache directory ($XDG_CACHE_HOME/iomt-gateway); the
packages of this virtual environment and this source tree are added at each run. Software emulation, no radio, no disk.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import image

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
# 6.1.192, which bookworm installs by default, crashes when a wearable that has lost its bond is connected.
PACKAGES = ("linux-image-6.12-amd64", "bluez", "dbus", "python3", "kmod", "busybox-static")
PROGRAMS = ("qemu-system-x86_64", "mmdebstrap", "cpio", "zstd")
LIBRARIES = ("bleak", "bleak-retry-connector", "cbor2", "cryptography", "pydantic", "prometheus-client", "bumble")
TESTING = ("pytest", "pytest-asyncio")
GUEST_PYTHON = (3, 11)
BUDGET_S = int(os.environ.get("BLUEZ_BUDGET_S", "420"))


def base_image() -> Path:
    """A directory with `vmlinuz` and `base.cpio.zst`."""

    def build(fresh: Path) -> None:
        hook = f"--customize-hook={HERE / 'prune.sh'}"
        image.debian(PACKAGES, "-", hook, "--format=null", environment={"OUT": str(fresh)})

    return image.cached("bluez-guest", (HERE / "prune.sh").read_bytes() + repr(PACKAGES).encode(), build)


def application(layer: Path, selection: list[str]) -> None:
    """What is tested, below `layer`."""
    image.install((*LIBRARIES, *TESTING), layer / "opt/site")
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("gateway", "systemd", "tests/ble", "tests/bluez"):
        shutil.copytree(TREE / part, layer / "opt/app" / part, ignore=ignore)
    shutil.copyfile(TREE / "pyproject.toml", layer / "opt/app/pyproject.toml")
    (layer / "opt/app/selection").write_text(" ".join(selection or ["tests/bluez/guest"]))
    shutil.copy(HERE / "guest/init", layer / "init")


def pack(layer: Path, archive: Path) -> None:
    """`layer` as an uncompressed cpio archive."""
    with archive.open("wb") as out:
        names = subprocess.run(["find", "."], cwd=layer, check=True, stdout=subprocess.PIPE).stdout
        command = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"]
        subprocess.run(command, cwd=layer, input=names, stdout=out, check=True)


def boot(base: Path, initrd: Path) -> int:
    """Run the guest, its console on standard output; returns the exit code of its tests."""
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "1536"]
    command += ["-nographic", "-no-reboot", "-nic", "none", "-kernel", str(base / "vmlinuz"), "-initrd", str(initrd)]
    command += ["-append", "console=ttyS0 panic=-1 quiet mitigations=off cryptomgr.notests random.trust_cpu=on"]
    command = ["timeout", "--signal=KILL", str(BUDGET_S), *command]
    started = time.monotonic()
    code = None
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as guest:
        for line in guest.stdout or ():
            print(line.rstrip(), flush=True)
            if told := re.search(r"GUEST EXIT (\d+)", line):
                code = int(told[1])
                guest.terminate()
    print(f"the guest ran for {time.monotonic() - started:.0f} s", flush=True)
    if code is None:
        print(f"it told no result within {BUDGET_S} s (BLUEZ_BUDGET_S)", file=sys.stderr)
        return 3
    return code


def main() -> int:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; apt-get install qemu-system-x86 mmdebstrap cpio zstd", file=sys.stderr)
        return 2
    if sys.version_info[:2] != GUEST_PYTHON:
        print(f"the guest runs {image.SUITE}'s Python 3.11 with this environment's packages: use that", file=sys.stderr)
        return 2
    base = base_image()
    with tempfile.TemporaryDirectory() as scratch:
        layer, archive, initrd = Path(scratch, "layer"), Path(scratch, "app.cpio"), Path(scratch, "initrd")
        application(layer, sys.argv[1:])
        pack(layer, archive)
        with initrd.open("wb") as out:
            for part in (base / "base.cpio.zst", archive):
                data = part.read_bytes()
                out.write(data + bytes(-len(data) % 4))
        return boot(base, initrd)


if __name__ == "__main__":
    sys.exit(main())
