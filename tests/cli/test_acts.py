"""`iomt-gateway audit verify` and `show`: what a person finds out about a log that somebody has touched."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.audit import AuditLog, verify

from .test_commands import ROOT, run


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """The log of a gateway at which alice has assigned a wearable five times."""
    config = (ROOT / "config" / "gateway.toml").read_text().replace("/var/lib/iomt-gateway", "state")
    (tmp_path / "gateway.toml").write_text(config)
    (tmp_path / "state").mkdir()
    await write(tmp_path / "state" / "audit.jsonl", "alice")
    return tmp_path / "state" / "audit.jsonl"


async def write(path: Path, who: str) -> None:
    """Five acts."""
    log = AuditLog.open(path)
    for no in range(5):
        await log.append(at_ms=1_760_000_000_000 + no, who=who, role="operator", act="assign", what={}, outcome="done")


def audit(log: Path, *arguments: str) -> tuple[int, str]:
    done = run("audit", *arguments, "--config", str(log.parents[1] / "gateway.toml"))
    return done.returncode, done.stdout + done.stderr


def test_a_log_that_nobody_touched_is_right_and_tells_its_head(log: Path) -> None:
    code, told = audit(log, "verify", "--json")
    assert (code, json.loads(told)["entries"], json.loads(told)["first"]) == (0, 5, 1)
    head = json.loads(told)["head"]
    assert audit(log, "verify", "--head", head.upper()) == (
        0,
        f"5 entries from 1 on, each follows the one before; head {head}\n",
    )


def test_each_act_is_shown_with_who_and_when(log: Path) -> None:
    code, told = audit(log, "show")
    assert code == 0
    assert told.splitlines()[0] == "    1 2025-10-09 08:53:20Z alice (operator): assign : done"
    assert [json.loads(line)["no"] for line in audit(log, "show", "--json")[1].splitlines()] == [1, 2, 3, 4, 5]


def tampered(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"alice", b"mallo"), *lines[2:]]


def removed(lines: list[bytes]) -> list[bytes]:
    return lines[:1] + lines[2:]


def beheaded(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


@pytest.mark.parametrize("change", [tampered, removed, beheaded])
def test_a_log_that_was_touched_is_told_apart_with_exit_status_1(
    log: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    log.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))
    code, told = audit(log, "verify")
    assert code == 1
    assert "audit.jsonl" in told
    assert "Traceback" not in told


async def test_a_shortened_or_rewritten_log_does_not_have_the_head_that_the_cloud_knows(log: Path) -> None:
    *_, (_, head) = verify(log)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    assert len(list(verify(log))) == 3, "by itself it is right"
    code, told = audit(log, "verify", "--head", head.hex())
    assert (code, "was rewritten" in told) == (1, True)
    log.unlink()
    await write(log, "mallory")
    assert len(list(verify(log))) == 5, "by itself it is right"
    assert audit(log, "verify", "--head", head.hex())[0] == 1
