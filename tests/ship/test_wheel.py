"""The wheel in an environment of its own with what it needs and no extra, as `pipx install` makes one."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from ship.packages import ROOT
from ship.tree import own_wheel

MOST_BYTES = 50 << 20


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("wheel")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, scratch / "venv"], check=True)
    wheel = own_wheel(scratch)
    command = [*uv, "pip", "install", "--quiet", "--python", scratch / "venv/bin/python", wheel]
    subprocess.run([*command, "--constraint", ROOT / "requirements/base.txt"], check=True)
    return scratch / "venv"


def run(environment: Path, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    whole = [environment / "bin" / command[0], *command[1:]]
    return subprocess.run(whole, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("program", ["iomt-gateway", "iomt-receiver"])
def test_both_commands_are_there(environment: Path, program: str) -> None:
    assert run(environment, program, "--version").stdout == f"{program} {__version__}\n"
    assert run(environment, program, "--help").returncode == 0


def test_what_it_carries_is_there(environment: Path, tmp_path: Path) -> None:
    decoded = run(environment, "iomt-gateway", "decode", "2A18", "020700E4070A1E0C1E0068B011")
    assert decoded.returncode == 0, decoded.stderr
    made = run(environment, "iomt-receiver", "init", str(tmp_path / "site"), "--host", "localhost")
    assert made.returncode == 0, made.stderr
    checked = run(environment, "iomt-gateway", "config", "check", str(tmp_path / "site/receiver.toml"))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("iomt-gateway", "prove", "--seconds", "60"), "lab"),
        (("iomt-receiver", "nats-users", "--config", "receiver.toml"), "receiver"),
        (("iomt-receiver", "store", "migrate", "--config", "receiver.toml"), "receiver"),
    ],
)
def test_what_needs_an_extra_names_it(environment: Path, tmp_path: Path, command: tuple[str, ...], extra: str) -> None:
    text = (ROOT / "config/receiver.toml").read_text().replace('# url = "sqlite"', 'url = "postgresql://owner@db/iomt"')
    (tmp_path / "receiver.toml").write_text(text.replace("# servers = []", 'servers = ["nats:4222"]'))
    done = run(environment, *command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"iomt-gateway[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_stays_small(environment: Path) -> None:
    site = next((environment / "lib").glob("python*/site-packages"))
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < MOST_BYTES
