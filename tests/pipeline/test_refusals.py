"""A disk that refuses: the process lives, readings wait in memory within a bound, and nothing goes untold."""

import asyncio
import errno
import os
from collections.abc import Callable

import pytest

from gateway import waiting
from gateway.envelope.seal import self_stream
from gateway.errors import OutboxFullError, OutboxWriteError
from gateway.model import Cursor, Lane
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline

from .conftest import GATEWAY, NOW_MS, OTHER, STREAM, alarm, contents, events, reading

Refuse = Callable[..., None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let every write and sync fail from now on; with None they work again."""

    def set_refusal(code: int | None) -> None:
        monkeypatch.undo()

        def fail(*_: object) -> None:
            raise OSError(code, os.strerror(code or 0))

        for name in ("pwrite", "fdatasync", "fsync") if code else ():
            monkeypatch.setattr(os, name, fail)

    return set_refusal


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_what_was_in_flight_and_what_came_since_is_durable_once_the_disk_is_back(
    pipeline: Pipeline, outbox: Outbox, refuse: Refuse, code: int
) -> None:
    pipeline.submit(STREAM, [reading(0)])
    await pipeline.flush()
    refuse(code)
    for number in range(1, 4):
        pipeline.submit(STREAM, [reading(number), alarm(100 + number)])
        with pytest.raises((OutboxWriteError, OutboxFullError)):
            await pipeline.flush()
    assert contents(outbox) == {STREAM: [0]}
    refuse(None)
    await pipeline.flush()
    assert contents(outbox, Lane.DATA)[STREAM] == [0, 1, 2, 3]
    assert contents(outbox, Lane.URGENT)[STREAM] == [101, 102, 103]


async def test_cursors_stay_where_they_are_while_the_disk_refuses(
    pipeline: Pipeline, outbox: Outbox, refuse: Refuse
) -> None:
    before, after = (Cursor("F0:00:00:00:00:01", "one", number) for number in (0, 1))
    pipeline.submit(STREAM, [reading(0)], before)
    await pipeline.flush()
    refuse(errno.EIO)
    pipeline.submit(STREAM, [reading(1)], after)
    with pytest.raises(OutboxWriteError):
        await pipeline.flush()
    assert outbox.cursors == {before.device: before}
    refuse(None)
    await pipeline.flush()
    assert outbox.cursors == {after.device: after}


async def test_beyond_the_bound_readings_are_counted_and_a_signed_gap_stands_in_their_place(
    pipeline: Pipeline, outbox: Outbox, refuse: Refuse, metrics: GatewayMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_RECORDS", 10)
    for name in ("pwrite", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, failing)
    pipeline.submit(STREAM, [reading(number) for number in range(20)])
    pipeline.submit(OTHER, [reading(7)])
    for _ in range(3):
        with pytest.raises(OutboxWriteError):
            await pipeline.flush()
    refuse(None)
    await pipeline.flush()
    pipeline.submit(STREAM, [reading(20)])
    await pipeline.flush()
    assert contents(outbox) == {STREAM: [*range(10), "gap of 10", 20], OTHER: ["gap of 1"]}
    assert 'iomt_gateway_lost_records_total{cause="disk"} 11.0' in metrics.render().decode()


async def test_beyond_the_bound_what_a_wearable_stores_is_left_to_it_and_taken_once_the_disk_is_back(
    pipeline: Pipeline, outbox: Outbox, refuse: Refuse, metrics: GatewayMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_RECORDS", 10)
    for name in ("pwrite", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, failing)
    cursor = Cursor("F0:00:00:00:00:01", "one", 10)
    pipeline.submit(STREAM, [reading(number) for number in range(10)])
    with pytest.raises(OutboxFullError):
        pipeline.submit(STREAM, [reading(10)], cursor)
    with pytest.raises(OutboxWriteError):
        await pipeline.flush()
    refuse(None)
    await pipeline.flush()
    assert not outbox.cursors
    pipeline.submit(STREAM, [reading(10)], cursor)
    await pipeline.flush()
    assert contents(outbox) == {STREAM: [*range(11)]}
    assert outbox.cursors == {cursor.device: cursor}
    assert 'iomt_gateway_lost_records_total{cause="disk"} 0.0' in metrics.render().decode()


def failing(*_: object) -> None:
    raise OSError(errno.EIO, "I/O error")


async def test_the_process_lives_says_what_is_wrong_and_tells_the_receiver_how_long_it_was(
    pipeline: Pipeline, outbox: Outbox, refuse: Refuse, metrics: GatewayMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.pipeline._RETRY_S", 0.01)
    task = asyncio.create_task(pipeline.run())
    await outbox.grown()
    refuse(errno.EIO)
    pipeline.submit(STREAM, [reading(1)])
    async with asyncio.timeout(20):
        while pipeline.trouble is None:  # noqa: ASYNC110 - it is not an event
            await asyncio.sleep(0.01)
    assert "check the disk" in pipeline.trouble
    assert metrics.value("outbox_refusing") == 1
    assert not task.done()
    refuse(None)
    async with asyncio.timeout(20):
        while pipeline.trouble is not None:  # noqa: ASYNC110 - same
            await asyncio.sleep(0.01)
    assert metrics.value("outbox_refusing") == 0
    pipeline.close()
    await task
    assert contents(outbox)[STREAM] == [1]
    (told,) = [event for event in events(outbox) if event.code == "outbox-failure"]
    assert told.time_ms == NOW_MS
    assert isinstance(told.details[0], str)
    assert contents(outbox)[self_stream(GATEWAY)][-1] == "shutdown"
