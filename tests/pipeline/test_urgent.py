"""What cannot wait has a lane and a chain of its own, and the data lane vouches for it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.envelope.layout import NO_HASH, urgent_root
from gateway.envelope.open import SignedBundle, parse
from gateway.envelope.seal import self_stream
from gateway.model import Cursor, Lane
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline

from .conftest import GATEWAY, STREAM, alarm, contents, events, reading

Build = Callable[[Outbox], Pipeline]


def bundles(outbox: Outbox, lane: Lane) -> list[SignedBundle]:
    return [parse(outbox.load(stored)) for stored in outbox.unreceipted(-1, 1000, lane)]


async def test_an_alarm_goes_into_the_urgent_lane_and_the_others_do_not(pipeline: Pipeline, outbox: Outbox) -> None:
    pipeline.submit(STREAM, [reading(1), alarm(2), reading(3)])
    await pipeline.flush()
    assert contents(outbox, Lane.URGENT) == {STREAM: [2]}
    assert contents(outbox, Lane.DATA)[STREAM] == [1, 3]


async def test_what_a_person_has_to_look_at_goes_into_the_urgent_lane(pipeline: Pipeline, outbox: Outbox) -> None:
    pipeline.event("bond-lost", "F0:00:00:00:00:01")
    pipeline.event("link-down", "F0:00:00:00:00:01")
    await pipeline.flush()
    assert [event.code for event in events(outbox, Lane.URGENT)] == ["bond-lost"]
    assert [event.code for event in events(outbox, Lane.DATA)] == ["link-down", "heartbeat"]


@pytest.mark.parametrize("cause", ["alarm", "event"])
async def test_something_urgent_ends_the_tick_at_once(pipeline: Pipeline, outbox: Outbox, cause: str) -> None:
    pipeline._tick_s = pipeline._offline_tick_s = 600.0
    pipeline._heartbeat_s = 600.0
    task = asyncio.create_task(pipeline.run())
    pipeline.submit(STREAM, [reading(1)])
    await asyncio.sleep(0.05)
    assert outbox.stats().bundles == 0
    if cause == "alarm":
        pipeline.submit(STREAM, [alarm(2)])
    else:
        pipeline.event("security", "tamper")
    async with asyncio.timeout(10):
        while outbox.newest() < 0:
            await outbox.grown()
    assert contents(outbox, Lane.DATA)[STREAM] == [1]
    # The next tick is a whole one again.
    pipeline.submit(STREAM, [reading(3)])
    await asyncio.sleep(0.05)
    assert contents(outbox, Lane.DATA)[STREAM] == [1]
    pipeline.close()
    await task


async def test_the_data_lane_names_the_urgent_head_after_each_urgent_flush_and_in_every_heartbeat(
    pipeline: Pipeline, outbox: Outbox
) -> None:
    for number in range(2):
        pipeline.submit(STREAM, [alarm(number)])
        await pipeline.flush()
    task = asyncio.create_task(pipeline.run())
    await outbox.grown()
    pipeline.close()
    await task
    head = outbox.head(Lane.URGENT)
    assert head is not None
    told = [event for event in events(outbox, Lane.DATA) if event.code in {"heartbeat", "shutdown"}]
    assert [event.details[1] for event in told] == [0, *[1] * (len(told) - 1)]
    assert told[-1].code == "shutdown"
    assert told[-1].details == (head.chain, head.no, head.hash)


async def test_the_cursor_of_an_alarm_stands_in_the_data_lane(pipeline: Pipeline, outbox: Outbox) -> None:
    cursor = Cursor("F0:00:00:00:00:01", "one", 5)
    pipeline.submit(STREAM, [alarm(5)], cursor)
    await pipeline.flush()
    assert outbox.cursors == {cursor.device: cursor}


async def test_an_urgent_chain_names_the_last_urgent_one_and_the_first_a_root_that_no_other_gateway_has(
    build: Build, tmp_path: Path
) -> None:
    for _ in range(2):
        outbox = Outbox.open(tmp_path / "outbox", gateway=GATEWAY, segment_bytes=1 << 20, capacity_bytes=16 << 20)
        assert outbox.stats().missing == 0, "nobody misses the root"
        pipeline = build(outbox)
        for number in range(2):
            pipeline.submit(STREAM, [alarm(number)])
            await pipeline.flush()
        found = bundles(outbox, Lane.URGENT)
        outbox.close()
    assert [bundle.no for bundle in found] == [0, 1, 0, 1]
    assert (found[0].predecessor, found[0].prev) == ((urgent_root(GATEWAY), 0), NO_HASH)
    assert (found[2].predecessor, found[2].prev) == ((found[1].chain, 1), found[1].hash)
    assert self_stream(GATEWAY) != urgent_root(GATEWAY) != urgent_root("gw-2")
