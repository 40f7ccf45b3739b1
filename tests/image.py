"""Debian systems that tests boot: built from its packages once, kept in the cache directory; our packages are added."""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement

SUITE = "bookworm"
_LEFT_OUT = tuple(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale"))


def cached(name: str, recipe: bytes, build: Callable[[Path], None]) -> Path:
    """The directory that `build` filled for this recipe, now or at an earlier run ($XDG_CACHE_HOME/iomt-gateway)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iomt-gateway"
    image = cache / f"{name}-{hashlib.sha256(SUITE.encode() + recipe).hexdigest()[:16]}"
    if image.exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        started = time.monotonic()
        _say(f"building {name} from Debian's packages ...")
        fresh = Path(scratch, "image")
        fresh.mkdir(mode=0o755)
        build(fresh)
        fresh.rename(image)
    _say(f"built in {time.monotonic() - started:.0f} s: {image}")
    return image


def debian(packages: tuple[str, ...], target: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
    """Make a system of `packages` at `target`."""
    command = ("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}", *_LEFT_OUT, *options)
    subprocess.run((*command, SUITE, target), check=True, env={**os.environ, **(environment or {})})


def install(names: tuple[str, ...], site: Path) -> None:
    """Copy these packages and what they need from this environment."""
    for source, place in _files(names):
        target = site / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _files(names: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """(source, place below the site directory) of every file of these packages that lies in site-packages."""
    for distribution in closure(names).values():
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                yield source, Path(file)


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


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
