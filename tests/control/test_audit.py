"""The audit log: durable, chained, and no change of it goes unseen."""

import json
from pathlib import Path

import pytest

from gateway.control import audit
from gateway.control.audit import AuditLog, verify
from gateway.errors import AuditError

KEPT = 2


async def filled(path: Path, count: int = 3) -> AuditLog:
    log = AuditLog.open(path, KEPT)
    for no in range(count):
        await log.append(at_ms=no, who="alice", role="operator", act="assign", what={"address": "A"}, outcome="done")
    return log


async def test_entries_follow_each_other_across_restarts_and_end_at_the_head(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await filled(path)
    log = await filled(path)
    entries = list(verify(path))
    assert [entry["no"] for entry, _ in entries] == [1, 2, 3, 4, 5, 6]
    assert (entries[-1][1], log.count, log.fault) == (log.head, 6, None)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", [0, 1])
async def test_a_changed_entry_breaks_the_next(tmp_path: Path, line: int) -> None:
    path = tmp_path / "audit.jsonl"
    await filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"alice", b"mallo")
    path.write_bytes(b"".join(lines))
    with pytest.raises(AuditError, match=f"line {line + 2} does not follow"):
        list(verify(path))
    assert AuditLog.open(path).fault


async def test_an_entry_taken_away_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(AuditError, match="line 2"):
        list(verify(path))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some four entries."""
    monkeypatch.setattr(audit, "FILE_BYTES", 900)


@pytest.mark.usefixtures("small")
async def test_it_takes_bounded_room_and_says_itself_what_it_deleted(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = await filled(path, 30)
    kept = list(verify(path))
    assert len(list(tmp_path.iterdir())) == 3
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4 * 900
    assert kept[0][0]["no"] > 1
    assert [entry["no"] for entry, _ in kept] == list(range(kept[0][0]["no"], log.count + 1))
    again = AuditLog.open(path)
    assert (again.head, again.count, again.fault) == (log.head, log.count, None)


@pytest.mark.usefixtures("small")
async def test_a_full_file_taken_away_by_somebody_else_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await filled(path, 30)
    oldest, newer = sorted(tmp_path.glob("audit-*.jsonl"))
    away = newer.read_bytes()
    newer.unlink()
    with pytest.raises(AuditError, match="does not follow"):
        list(verify(path))
    newer.write_bytes(away)
    list(verify(path))
    oldest.unlink()
    with pytest.raises(AuditError, match="entries were taken away"):
        list(verify(path))
    assert AuditLog.open(path).fault


@pytest.mark.usefixtures("small")
async def test_a_power_cut_between_two_files_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = await filled(path, 5)
    path.rename(tmp_path / f"audit-{log.count:010}.jsonl")
    log = await filled(path, 1)
    assert (log.fault, log.count) == (None, 6)
    assert [entry["no"] for entry, _ in verify(path)] == [1, 2, 3, 4, 5, 6]


async def test_half_a_line_of_a_power_cut_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await filled(path)
    with path.open("ab") as file:
        file.write(b'{"no":4,')
    log = await filled(path, 1)
    assert log.fault is None
    assert [entry["no"] for entry, _ in verify(path)] == [1, 2, 3, 4]


async def test_a_disk_that_refuses_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "audit.jsonl"
    path.parent.mkdir()
    log = await filled(path, 1)
    path.unlink()
    path.parent.rmdir()
    head = log.head
    with pytest.raises(AuditError, match="cannot be written"):
        await log.append(at_ms=None, who="a", role="admin", act="x", what={}, outcome="begun")
    assert (log.head, log.count) == (head, 1)


async def test_an_entry_is_json_with_who_what_when_and_outcome(tmp_path: Path) -> None:
    await filled(tmp_path / "audit.jsonl", 1)
    entry = json.loads((tmp_path / "audit.jsonl").read_text())
    assert entry.items() >= {"who": "alice", "act": "assign", "outcome": "done", "at_ms": 0}.items()
