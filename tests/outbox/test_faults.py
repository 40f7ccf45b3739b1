import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import OutboxError, OutboxFullError, OutboxWriteError
from gateway.model import Cursor, Lane, Receipt, SealedBundle
from gateway.outbox.files import Files, replace_file
from gateway.outbox.outbox import Outbox

Seal = Callable[..., SealedBundle]


class Refusing:
    """Stands where a system call stood; refuses the first `times` calls."""

    def __init__(self, code: int, call: Callable[..., object], times: int = 1) -> None:
        self.code, self.call, self.times, self.calls = code, call, times, 0

    def __call__(self, *arguments: object) -> object:
        self.calls += 1
        if self.calls <= self.times:
            raise OSError(self.code, os.strerror(self.code))
        return self.call(*arguments)


async def test_a_failed_sync_is_final_for_its_segment_and_the_same_bytes_go_into_the_next(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.append(seal())
    await outbox.sync()
    behind = threading.Event()
    synced: list[int] = []

    def refuse_once(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        behind.wait()
        if len(synced) == 1:
            raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fdatasync", refuse_once)
    in_flight = [seal(), seal()]
    syncs = []
    for bundle in in_flight:
        outbox.append(bundle)
        syncs.append(asyncio.create_task(outbox.sync()))
        await asyncio.sleep(0)
    behind.set()
    outcomes = await asyncio.gather(*syncs, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OutboxWriteError, OutboxWriteError]
    with pytest.raises(OutboxWriteError):
        await outbox.sync()
    with pytest.raises(OutboxFullError, match="roll"):
        outbox.append(seal())
    assert [stored.link.no for stored in outbox.unreceipted(-1, 10)] == [0]
    assert not outbox.fits()
    await outbox.roll()
    await outbox.sync()
    assert len(set(synced)) == len(synced) == 2
    stored = outbox.unreceipted(-1, 10)
    assert [each.position for each in stored] == [0, 1, 2]
    assert [outbox.load(each) for each in stored[1:]] == [bundle.data for bundle in in_flight]


async def test_what_was_in_flight_goes_on_in_the_segments_after_the_next_if_it_does_not_fit_in_one(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = [seal(size=60_000) for _ in range(17)]
    for bundle in bundles:
        outbox.append(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", Refusing(errno.EIO, os.fdatasync))
        with pytest.raises(OutboxWriteError):
            await outbox.sync()
    # The next one opens with more of what a restart must know.
    outbox._logs[Lane.DATA].memory.cursors = {str(n): Cursor(str(n), "s" * 1000, n) for n in range(100)}
    rolls = 0
    while outbox.unplaced() or not rolls:
        await outbox.roll()
        rolls += 1
    await outbox.sync()
    assert rolls == 2
    stored = outbox.unreceipted(-1, 100)
    assert [each.position for each in stored] == list(range(17))
    assert [outbox.load(each) for each in stored] == [bundle.data for bundle in bundles]


async def test_what_a_failed_segment_did_keep_after_all_is_held_once(
    reopen: Callable[..., Outbox], seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen()
    outbox.append(seal())
    await outbox.sync()
    bundles = [seal() for _ in range(3)]
    for bundle in bundles:
        outbox.append(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", Refusing(errno.EIO, os.fdatasync))
        patch.setattr(os, "ftruncate", Refusing(errno.EIO, os.ftruncate))
        with pytest.raises(OutboxWriteError):
            await outbox.sync()
        await outbox.roll()
        await outbox.sync()
    for each in (outbox, reopen()):
        assert [stored.link.no for stored in each.unreceipted(-1, 10)] == [0, 1, 2, 3]
        assert each.stats().missing == 0


async def test_what_a_failed_segment_did_keep_stays_forgotten_where_the_process_ended_before_it_was_appended_again(
    reopen: Callable[..., Outbox], seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen()
    outbox.append(seal())
    await outbox.sync()
    outbox.append(seal())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", Refusing(errno.EIO, os.fdatasync))
        patch.setattr(os, "ftruncate", Refusing(errno.EIO, os.ftruncate))
        with pytest.raises(OutboxWriteError):
            await outbox.sync()
        await outbox.roll()
    for _ in range(3):
        again = reopen()
        assert [stored.link.no for stored in again.unreceipted(-1, 10)] == [0]
        assert again.stats().missing == 0


async def test_a_segment_has_its_name_only_once_it_is_durable(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def note(name: str) -> None:
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments: calls.append(name) or call(*arguments))

    for name in ("posix_fallocate", "pwrite", "fsync", "rename"):
        note(name)
    assert await outbox.tale() is None
    assert calls == ["posix_fallocate", "fsync"]
    assert [path.stem for path in tmp_path.glob("*.seg")] == [f"{1:012}"]
    await outbox.roll()
    assert calls[2:] == ["pwrite", "fsync", "rename", "fsync"]
    assert (tmp_path / f"{2:012}.seg").exists()


def spy_on_fsync(monkeypatch: pytest.MonkeyPatch, inodes: list[int]) -> None:
    """Gather the inode of every file or directory that is synced from now on."""
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: inodes.append(os.fstat(fd).st_ino) or fsync(fd))


async def test_what_a_killed_process_wrote_is_made_durable_before_anything_else(
    reopen: Callable[..., Outbox], seal: Seal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outbox = reopen()
    outbox.append(seal())
    await outbox.sync()
    synced: list[int] = []
    reopen(lambda: spy_on_fsync(monkeypatch, synced))
    assert synced[0] == (tmp_path / f"{1:012}.seg").stat().st_ino


async def test_a_deletion_is_made_durable(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, receipt: Callable[..., Receipt]
) -> None:
    first = seal()
    outbox.append(first)
    await outbox.sync()
    outbox.apply(receipt(first.link))
    bundles = [seal(size=60_000) for _ in range(80)]
    for at in range(0, 80, 10):
        for bundle in bundles[at : at + 10]:
            outbox.append(bundle)
        await outbox.roll()
    synced: list[int] = []
    spy_on_fsync(monkeypatch, synced)
    outbox.apply(receipt(bundles[-1].link))
    await outbox.sync()
    assert synced
    assert set(synced) == {tmp_path.stat().st_ino}


@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename"])
async def test_a_segment_that_cannot_be_made_is_told_and_the_next_attempt_makes_another(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    outbox.append(seal())
    await outbox.sync()
    await outbox.tale()
    monkeypatch.setattr(os, call, Refusing(errno.EIO, getattr(os, call)))
    with pytest.raises(OutboxWriteError, match="check the disk"):
        await outbox.roll()
    assert not outbox.fits()
    await outbox.roll()
    outbox.append(seal())
    await outbox.sync()
    assert [stored.link.no for stored in outbox.unreceipted(-1, 10)] == [0, 1]


async def test_a_short_write_ends_its_segment(outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox.append(seal())
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda _fd, data, _offset: len(data) - 1)
        with pytest.raises(OutboxWriteError):
            await outbox.sync()
    assert outbox.unreceipted(-1, 10) == []
    await outbox.roll()
    await outbox.sync()
    assert [stored.link.no for stored in outbox.unreceipted(-1, 10)] == [0]


async def test_a_full_disk_says_how_to_go_on_and_is_not_final(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outbox.append(seal())
    monkeypatch.setattr(os, "posix_fallocate", Refusing(errno.ENOSPC, os.posix_fallocate))
    with pytest.raises(OutboxFullError, match="free space"):
        await outbox.roll()
    assert not (tmp_path / "spare").exists()
    await outbox.roll()
    outbox.append(seal())
    await outbox.sync()
    assert [stored.link.no for stored in outbox.unreceipted(-1, 10)] == [0, 1]


async def test_on_a_full_disk_receipted_segments_make_room(
    outbox: Outbox, seal: Seal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, receipt: Callable[..., Receipt]
) -> None:
    for _ in range(2):
        bundle = seal()
        outbox.append(bundle)
        await outbox.roll()
    outbox.apply(receipt(bundle.link))
    monkeypatch.setattr(os, "posix_fallocate", Refusing(errno.ENOSPC, os.posix_fallocate))
    await outbox.roll()
    assert outbox.fits()
    assert f"{1:012}" not in {path.stem for path in tmp_path.glob("*.seg")}


async def test_an_outbox_opens_on_a_full_disk_so_that_its_backlog_can_leave(
    reopen: Callable[..., Outbox], seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen()
    outbox.append(seal())
    await outbox.sync()
    monkeypatch.setattr(os, "posix_fallocate", Refusing(errno.ENOSPC, os.posix_fallocate))
    outbox = reopen()
    assert not outbox.fits()
    assert len(outbox.unreceipted(-1, 10)) == 1


def test_a_small_file_keeps_its_content_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "receipted"
    replace_file(Files(), path, b"old", durable=True)
    monkeypatch.setattr(os, "pwrite", Refusing(errno.ENOSPC, os.pwrite))
    replace_file(Files(), path, b"new", durable=True)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("receipted", b"old")]


def test_a_place_that_is_no_directory_is_a_declared_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox.open(tmp_path / "file", gateway="gw", segment_bytes=1 << 20, capacity_bytes=8 << 20)
