"""Build the Debian packages: `python -m ship.deb [--architecture amd64] [--package iomt-gateway] [--out dist]`.

From one commit always the same bytes: every time in them is the commit's.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template

from ship import sbom, tree
from ship.packages import ARCHITECTURES, PACKAGES, ROOT, Package, made_at, version

_TEMPLATES = Path(__file__).parent / "debian"
_CONTROL = """\
Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: iomt-gateway maintainers <root@localhost>
Installed-Size: {kibibytes}
Depends: {depends}
Recommends: {recommends}
Suggests: {suggests}
Section: net
Priority: optional
Description: {description}
"""


def build(package: Package, architecture: str, wheel: Path, out: Path, full_version: str) -> Path:
    """Write one package, and its bill of materials, into `out`."""
    target = out / f"{package.name}_{full_version}_{architecture}.deb"
    built_for = made_at()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, package.name)
        tree.lay_out(package, architecture, wheel, root, full_version, made_at=built_for)
        _describe(package, architecture, root, full_version)
        tree.settle(root, made_at=built_for)
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(root), str(target)]
        shutil.copy(root / sbom.place(package), target.with_suffix(".cdx.json"))
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(built_for)}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return target


def _describe(package: Package, architecture: str, root: Path, full_version: str) -> None:
    """Write DEBIAN/: control file, checksums, and what is done around an installation."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files]  # noqa: S324 - dpkg's format
    debian = root / "DEBIAN"
    debian.mkdir()
    (debian / "md5sums").write_text("".join(sums))
    control = _CONTROL.format(
        name=package.name,
        version=full_version,
        architecture=architecture,
        kibibytes=sum(path.stat().st_size for path in files) // 1024,
        depends=", ".join(package.depends),
        recommends=", ".join(package.recommends),
        suggests=", ".join(package.suggests),
        description=package.description,
    )
    (debian / "control").write_text(control)
    units = (*package.units, *package.further_units)
    values = {"NAME": package.name, "UNITS": " ".join(package.units), "ALL": " ".join(units)}
    for script in ("postinst", "prerm", "postrm"):
        text = (_TEMPLATES / script).read_text() + (_TEMPLATES / f"{package.name}.{script}").read_text()
        (debian / script).write_text(Template(text).substitute(values))
        (debian / script).chmod(0o755)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m ship.deb", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--architecture", action="append", choices=ARCHITECTURES)
    parser.add_argument("--package", action="append", choices=[each.name for each in PACKAGES])
    parser.add_argument("--revision", default="1", help="of the package, when it changes and what is in it does not")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = str(made_at())
    subprocess.run(["make", "--silent", "man"], cwd=ROOT, check=True)
    chosen = [
        (package, architecture)
        for package in PACKAGES
        for architecture in arguments.architecture or ARCHITECTURES
        if package.name in (arguments.package or [package.name])
    ]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        wheel = tree.own_wheel(Path(scratch))
        full_version = version(arguments.revision)
        building = [pool.submit(build, *each, wheel, arguments.out, full_version) for each in chosen]
        for made in (each.result() for each in building):
            digest = hashlib.sha256(made.read_bytes()).hexdigest()
            print(f"{digest}  {made}  {made.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
