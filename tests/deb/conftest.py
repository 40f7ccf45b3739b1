"""The packages, built once, and a Debian system that boots systemd and has none of them yet."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ship.packages import PACKAGES, ROOT, version
from tests import image
from tests.nspawn import container
from tests.nspawn.container import Container
from tests.nspawn.site import Site

LAB = "/opt/lab"


def build(out: Path, *options: str, umask: int = 0o022) -> Path:
    command = [sys.executable, "-m", "ship.deb", "--architecture", "amd64", "--out", str(out), *options]
    subprocess.run(command, cwd=ROOT, check=True, umask=umask, stdout=subprocess.DEVNULL, timeout=900)
    return out


@dataclass(frozen=True)
class Built:
    """A directory of packages, and the next version of each, which differs in nothing else."""

    directory: Path

    def file(self, name: str, revision: str = "1") -> Path:
        return self.directory / f"{name}_{version(revision)}_amd64.deb"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is missing: packages are built on Debian")
    built = Built(build(tmp_path_factory.mktemp("debs")))
    for package in PACKAGES:
        tree = tmp_path_factory.mktemp("next") / "tree"
        subprocess.run(("dpkg-deb", "--raw-extract", built.file(package.name), tree), check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"Version: {version('1')}\n", f"Version: {version('2')}\n"))
        command = ("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, built.file(package.name, "2"))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return built


@pytest.fixture(scope="session")
def box(packages: Built) -> Iterator[Container]:
    if reason := container.missing():
        pytest.skip(reason)

    def bring(root: Path) -> None:
        """The packages as files, and the libraries of the virtual radio apart from them."""
        shutil.copytree(packages.directory, root / "debs")
        image.install(("bumble",), root / LAB.lstrip("/"))

    # Not below pytest's own directory: PostgreSQL's account has to get in.
    with tempfile.TemporaryDirectory() as scratch, container.booted(Path(scratch), bring) as running:
        yield running


class Machine(Site):
    """One that gets its software from packages."""

    def __init__(self, box: Container, packages: Built) -> None:
        super().__init__(box)
        self._packages = packages

    def install(self, *names: str, revision: str = "1") -> str:
        """Install packages, or the next version of them; returns what was said."""
        said = self.box.run("dpkg", "-i", *(f"/debs/{self._packages.file(name, revision).name}" for name in names))
        if "iomt-gateway" in names:  # a virtual radio is no part of what is shipped
            site = self.path("/usr/lib/iomt-gateway/lib/python3.11/site-packages")
            (site / "lab.pth").write_text(f"{LAB}\n")
        return said

    def state(self, unit: str) -> str:
        return self.box.show(unit, "ActiveState")


@pytest.fixture(scope="session")
def machine(box: Container, packages: Built) -> Machine:
    return Machine(box, packages)
