"""Boot Debian's kernel with BlueZ in QEMU and run `tests/bluez/guest` there: `python tests/bluez/run.py [pytest args]`.

The base system is built from Debian's packages once and kept in the cache directory ($XDG_CACHE_HOME/iomt-gateway); the
packages of this virtual environment and this source tree are added at each run. Software emulation, no radio, no disk.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
# 6.1.192, which bookworm installs by default, crashes when a wearable that has lost its bond is connected.
PACKAGES = ("linux-image-6.12-amd64", "bluez", "dbus", "python3", "kmod", "busybox-static")
PROGRAMS = ("qemu-system-x86_64", "mmdebstrap", "cpio", "zstd")
LIBRARIES = ("bleak", "bleak-retry-connector", "cbor2", "cryptography", "pydantic", "prometheus-client", "bumble")
TESTING = ("pytest", "pytest-asyncio")
SUITE = "bookworm"
GUEST_PYTHON = (3, 11)
BUDGET_S = int(os.environ.get("BLUEZ_BUDGET_S", "420"))


def base_image() -> Path:
    """A directory with `vmlinuz` and `base.cpio.zst`; built if this recipe has none yet."""
    recipe = hashlib.sha256((HERE / "prune.sh").read_bytes() + repr((PACKAGES, SUITE)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iomt-gateway"
    image = cache / f"bluez-guest-{recipe}"
    if (image / "base.cpio.zst").exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        started = time.monotonic()
        print("building the guest's system from Debian's packages ...", flush=True)
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}", *excluded),
                *(f"--customize-hook={HERE / 'prune.sh'}", "--format=null", SUITE, "-"),
            ],
            check=True,
            env=os.environ | {"OUT": fresh},
        )
        shutil.rmtree(image, ignore_errors=True)
        Path(fresh).rename(image)
        Path(fresh).mkdir()  # for the context manager to remove
    print(f"built in {time.monotonic() - started:.0f} s: {image}", flush=True)
    return image


def closure(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """The installed packages that `names` need, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found[name] = distribution = importlib.metadata.distribution(name)
        requirements = map(Requirement, distribution.requires or ())
        waiting += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def files(names: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """(source, place below the site directory) of every file of these packages that lies in site-packages."""
    for distribution in closure(names).values():
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                yield source, Path(file)


def application(layer: Path, selection: list[str]) -> None:
    """What is tested, below `layer`."""
    for source, place in files((*LIBRARIES, *TESTING)):
        target = layer / "opt/site" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
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


def boot(image: Path, initrd: Path) -> int:
    """Run the guest, its console on standard output; returns the exit code of its tests."""
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "1536"]
    command += ["-nographic", "-no-reboot", "-nic", "none", "-kernel", str(image / "vmlinuz"), "-initrd", str(initrd)]
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
        print(f"the guest runs {SUITE}'s Python 3.11 with this environment's packages: use that", file=sys.stderr)
        return 2
    image = base_image()
    with tempfile.TemporaryDirectory() as scratch:
        layer, archive, initrd = Path(scratch, "layer"), Path(scratch, "app.cpio"), Path(scratch, "initrd")
        application(layer, sys.argv[1:])
        pack(layer, archive)
        with initrd.open("wb") as out:
            for part in (image / "base.cpio.zst", archive):
                data = part.read_bytes()
                out.write(data + bytes(-len(data) % 4))
        return boot(image, initrd)


if __name__ == "__main__":
    sys.exit(main())
