"""The files of a package, laid out as they will lie on the machine.

Python packages come from the hash-locked requirements as wheels for the target; nothing of the target is run, so any
machine builds for any. What a venv would be is written by hand, for the interpreter that Debian has.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gateway.errors import ConfigError
from ship import sbom
from ship.packages import ARCHITECTURES, PYTHON, ROOT, Package

_SCRIPTS = {"iomt-gateway": "gateway.cli.gateway", "iomt-receiver": "gateway.cli.receiver"}
_LAUNCHER = """\
#!{home}/bin/python -I
import sys

from {module} import main

sys.exit(main())
"""
_VENV = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
_WHEEL_PARTS = ("gateway", "certs", "config", "pyproject.toml", "README.md", "LICENSE")


def own_wheel(directory: Path) -> Path:
    """Build this project's wheel into `directory`, from a copy: a build leaves files in its tree."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in _WHEEL_PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, Path(scratch, part), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, scratch)
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory)]
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, scratch], check=True)
    return next(directory.glob("*.whl"))


def lay_out(package: Package, architecture: str, wheel: Path, root: Path, version: str, *, made_at: int) -> None:
    """Everything but DEBIAN/ of `package`, below `root`; `made_at` in seconds since 1970."""
    if sys.version_info[:2] != tuple(map(int, PYTHON.split("."))):
        raise ConfigError(f"compiled modules are for Python {PYTHON}: build with that")
    home = root / package.home.relative_to("/")
    site = home / "lib" / f"python{PYTHON}" / "site-packages"
    _python_packages(package, architecture, wheel, site)
    (home / "pyvenv.cfg").write_text(_VENV)
    (home / "bin").mkdir()
    (home / "bin/python").symlink_to(f"/usr/bin/python{PYTHON}")
    for script, module in _SCRIPTS.items():
        _write(home / "bin" / script, _LAUNCHER.format(home=package.home, module=module), 0o755)
    _link(root / "usr/bin" / package.name, package.home / "bin" / package.name)
    _system_files(package, root)
    _manual(package, root)
    _documents(package, architecture, site, root, version, made_at=made_at)
    _compile(site, root)


def settle(root: Path, *, made_at: int) -> None:
    """Give every file one time, and the mode that its place asks for, whatever the builder's umask was."""
    for path in (root, *sorted(root.rglob("*"))):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (made_at, made_at), follow_symlinks=False)


def _python_packages(package: Package, architecture: str, wheel: Path, site: Path) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirements", str(ROOT / "requirements" / f"{package.lock}.txt")]
    command += ["--python-platform", ARCHITECTURES[architecture], "--python-version", PYTHON]
    command += ["--target", str(site), "--link-mode", "copy"]  # a link would change the installer's own cache
    subprocess.run(command, check=True)
    shutil.rmtree(site / "bin", ignore_errors=True)
    (site / ".lock").unlink(missing_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def _system_files(package: Package, root: Path) -> None:
    units = root / "usr/lib/systemd/system"
    for unit in (*package.units, *package.further_units):
        _copy(ROOT / "systemd" / unit, units / unit, 0o644)
    for drop_in in (ROOT / "systemd/drop-ins" / package.name).glob("*"):
        _copy(drop_in, root / "usr/share" / package.name / "drop-ins" / drop_in.name, 0o644)
    for helper in package.helpers:
        _copy(ROOT / "systemd" / helper, root / package.home.relative_to("/") / "libexec" / helper, 0o755)
    for kind in ("sysusers", "tmpfiles"):
        target = root / f"usr/lib/{kind}.d" / f"{package.name}.conf"
        _copy(ROOT / "systemd" / f"{package.name}.{kind}", target, 0o644)


def _manual(package: Package, root: Path) -> None:
    """What `make man` wrote."""
    share, made = root / "usr/share", ROOT / "build/share"
    _gzip(made / f"man/man1/{package.name}.1", share / f"man/man1/{package.name}.1.gz")
    for completion in (
        f"bash-completion/completions/{package.name}",
        f"zsh/vendor-completions/_{package.name}",
        f"fish/vendor_completions.d/{package.name}.fish",
    ):
        _copy(made / completion, share / completion, 0o644)


def _documents(package: Package, architecture: str, site: Path, root: Path, version: str, *, made_at: int) -> None:
    documents = root / "usr/share/doc" / package.name
    for example in package.examples:
        _copy(ROOT / "config" / example, root / "usr/share" / package.name / Path(example).name, 0o644)
    bill = sbom.document(package, version, architecture, site, made_at=made_at)
    _write(root / sbom.place(package), bill, 0o644)
    _gzip(ROOT / "CHANGELOG.md", documents / "changelog.gz")
    licence = "\n".join(f" {line}" if line else " ." for line in (ROOT / "LICENSE").read_text().splitlines())
    _write(
        documents / "copyright",
        f"Licences of what is bundled are beside it, in {package.home}/lib,\n"
        f"and listed in /{sbom.place(package)}.\n\n"
        f"Files: *\nCopyright: the authors of iomt-gateway\nLicense: Apache-2.0\n{licence}\n",
        0o644,
    )


def _compile(site: Path, root: Path) -> None:
    """Compiled modules that are never compared with their sources: these cannot change on the machine."""
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", str(root)]
    command += ["-p", "/", str(site)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})


def _gzip(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(source.read_bytes(), mtime=0))


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(target: Path, text: str, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
