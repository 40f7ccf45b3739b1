"""Completion in real shells, and the manual pages."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import gateway, receiver

ROOT = Path(__file__).parents[2]
PROGRAMS = {"gateway": gateway, "receiver": receiver}


def script(program: str, shell: str) -> str:
    command = [sys.executable, "-m", f"gateway.cli.{program}", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def shell(*command: str, **options: object) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload] # passed on
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes_commands_options_and_the_wearables_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "iomt-gateway").write_text("#!/bin/sh\nprintf 'ADDRESS  X\\nF0:00:00:00:01:01  bed 4\\n'\n")
    (tmp_path / "iomt-gateway").chmod(0o755)
    (tmp_path / "completion").write_text(script("gateway", "bash"))
    ask = f'. {tmp_path}/completion; PATH={tmp_path}:$PATH; COMP_CWORD=$(($# - 1)); COMP_WORDS=("$@"); '
    ask += "_shtab_iomt_gateway; echo ${COMPREPLY[@]}"

    def completed(*words: str) -> list[str]:
        return shell("bash", "-c", ask, "bash", "iomt-gateway", *words).split()

    assert completed("stat") == ["status"]
    assert {"list", "scan", "assign", "unpair"} <= set(completed("devices", ""))
    assert completed("status", "--j") == ["--json"]
    assert completed("devices", "show", "") == ["F0:00:00:00:01:01"]


def test_fish_completes_commands_and_options(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script("receiver", "fish"))
    told = shell("fish", "-c", f"source {tmp_path}/completion; complete -C 'iomt-receiver streams '")
    assert {line.split("\t")[0] for line in told.splitlines()} >= {"list", "assign", "unassign"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_zsh_takes_what_it_is_given_and_every_command_is_in_it(program: str, tmp_path: Path) -> None:
    text = script(program, "zsh")
    (tmp_path / "completion").write_text(text)
    shell("zsh", "-n", str(tmp_path / "completion"))
    taken = 'autoload -Uz compinit; compinit -u -D; eval "$(cat $1)"; print ${_comps[$2]}'
    told = shell("zsh", "-f", "-c", taken, "zsh", str(tmp_path / "completion"), f"iomt-{program}")
    assert told.strip() == f"_shtab_iomt_{program}"
    [commands] = [each.choices for each in PROGRAMS[program].parser()._actions if each.choices]
    assert all(f"{name}:" in text for name in commands)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manual_has_every_command_and_what_an_exit_status_says(program: str) -> None:
    command = ["argparse-manpage", "--module", f"gateway.cli.{program}", "--function", "parser"]
    command += ["--prog", f"iomt-{program}", "--include", f"docs/man/{program}.txt"]
    page = shell(str(Path(sys.executable).parent / command[0]), *command[1:], cwd=ROOT)
    assert ".SH EXIT STATUS" in page
    [commands] = [each.choices for each in PROGRAMS[program].parser()._actions if each.choices]
    assert all(f"\\fI\\,{name}\\/\\fR".replace("-", "\\-") in page for name in commands)
