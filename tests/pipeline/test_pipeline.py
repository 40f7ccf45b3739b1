"""The hallway: what is submitted is durable after a flush, once, in order, with its cursor."""

import asyncio
from dataclasses import replace
from hashlib import sha256

import pytest

from gateway.clock.system import Clock
from gateway.envelope.open import parse
from gateway.envelope.seal import self_stream
from gateway.health.metrics import GLUCOSE, METRICS
from gateway.model import Cursor, Extra, Reading, Reason, TimeSource
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline

from .conftest import BOOT, GATEWAY, NOW_MS, OTHER, STREAM, Clocks, contents, reading, sealed_records


async def test_a_flush_makes_everything_durable_in_one_bundle(pipeline: Pipeline, outbox: Outbox) -> None:
    pipeline.submit(STREAM, [reading(1), reading(2)])
    pipeline.submit(OTHER, [reading(7)])
    pipeline.submit(STREAM, [reading(3)])
    pipeline.event("start")
    await pipeline.flush()
    assert outbox.stats().bundles == 1
    assert contents(outbox) == {STREAM: [1, 2, 3], OTHER: [7], self_stream(GATEWAY): ["start"]}


async def test_what_is_no_patients_goes_to_a_stream_of_its_own(pipeline: Pipeline, outbox: Outbox) -> None:
    control, demo = (replace(reading(n), reasons=r) for n, r in ((2, Reason.CONTROL_SOLUTION), (4, Reason.DEMO_DATA)))
    pipeline.submit(STREAM, [reading(1), control, reading(3), demo])
    await pipeline.flush()
    apart = sha256(b"iomt-gateway/1 not-a-patient" + STREAM).digest()[:16]
    assert contents(outbox) == {STREAM: [1, 3], apart: [2, 4]}


async def test_nothing_is_durable_before_the_flush(pipeline: Pipeline, outbox: Outbox) -> None:
    pipeline.submit(STREAM, [reading(1)])
    assert outbox.stats().bundles == 0


async def test_a_cursor_becomes_durable_with_the_last_of_its_records(pipeline: Pipeline, outbox: Outbox) -> None:
    cursor = Cursor("F0:00:00:00:00:01", "one", 9_999)
    pipeline.submit(STREAM, [reading(number) for number in range(10_000)], cursor)
    assert not outbox.cursors
    await pipeline.flush()
    assert outbox.stats().bundles > 1
    assert outbox.cursors == {cursor.device: cursor}
    assert contents(outbox)[STREAM] == list(range(10_000))


async def test_a_tick_gathers_what_arrives_within_it(pipeline: Pipeline, outbox: Outbox) -> None:
    task = asyncio.create_task(pipeline.run())
    for number in range(4):
        pipeline.submit(STREAM, [reading(number)])
        await asyncio.sleep(0.001)
    await outbox.grown()
    assert contents(outbox) == {STREAM: [0, 1, 2, 3]}
    pipeline.close()
    await task


async def test_without_readings_a_heartbeat_is_sealed(pipeline: Pipeline, outbox: Outbox) -> None:
    task = asyncio.create_task(pipeline.run())
    await outbox.grown()
    pipeline.close()
    await task
    assert contents(outbox)[self_stream(GATEWAY)] == ["heartbeat", "shutdown"]


async def test_an_orderly_shutdown_keeps_what_had_arrived_and_says_so_last(pipeline: Pipeline, outbox: Outbox) -> None:
    task = asyncio.create_task(pipeline.run())
    await asyncio.sleep(0)
    pipeline.submit(STREAM, [reading(1)])
    pipeline.close()
    await task
    assert contents(outbox) == {STREAM: [1], self_stream(GATEWAY): ["shutdown"]}


async def test_a_segment_begun_on_request_needs_no_keys_of_the_one_before(pipeline: Pipeline, outbox: Outbox) -> None:
    for number in range(2):
        pipeline.submit(STREAM, [reading(number)])
        await pipeline.flush()
    assert outbox.segment_start() == 0
    pipeline.begin_segment()
    pipeline.submit(STREAM, [reading(2)])
    await pipeline.flush()
    assert outbox.segment_start() == 2
    opens = [bool(parse(outbox.load(stored)).epochs) for stored in outbox.unreceipted(-1, 10)]
    assert opens == [True, False, True]


async def test_a_record_that_the_format_has_no_room_for_costs_itself_alone_and_leaves_a_gap(
    pipeline: Pipeline, outbox: Outbox, metrics: GatewayMetrics
) -> None:
    endless = Reading("F0:00:00:00:00:01", GLUCOSE, 1 << 60, 0, NOW_MS)
    pipeline.submit(OTHER, [reading(7)])
    pipeline.submit(STREAM, [reading(1), endless, reading(2)])
    await pipeline.flush()
    assert contents(outbox) == {OTHER: [7], STREAM: [1, "gap of 1", 2]}
    page = metrics.render().decode()
    assert 'iomt_gateway_device_errors_total{cause="malformed"} 1.0' in page
    assert 'iomt_gateway_lost_records_total{cause="refused"} 1.0' in page


async def test_security_events_and_sizes_are_counted(
    pipeline: Pipeline, outbox: Outbox, metrics: GatewayMetrics
) -> None:
    pipeline.event("quarantined", "F0:00:00:00:00:01", "identity")
    pipeline.event("link-up", "F0:00:00:00:00:01")
    await pipeline.flush()
    page = metrics.render().decode()
    assert 'iomt_gateway_security_events_total{kind="quarantined"} 1.0' in page
    assert "link-up" not in page
    assert "F0:00" not in page
    assert metrics.value("bundle_bytes_count") == metrics.value("sealed_bundles_total") == 2
    assert 2 * 100 < metrics.value("bundle_bytes_sum") <= outbox.stats().bytes


async def test_readings_are_counted_by_profile_metric_and_quality(pipeline: Pipeline, metrics: GatewayMetrics) -> None:
    backfilled = Reading("F0:00:00:00:00:01", GLUCOSE, 101, 0, NOW_MS, extras=((Extra.BACKFILLED, 1),))
    pipeline.submit(STREAM, [reading(1), backfilled])
    await pipeline.flush()
    page = metrics.render().decode()
    labels = f'{{metric="{METRICS[GLUCOSE].name}",profile="cgm",quality="good"}}'
    assert f"iomt_gateway_captured_readings_total{labels} 2.0" in page
    assert "iomt_gateway_backfilled_readings_total 1.0" in page
    assert "iomt_gateway_sealed_records_total 2.0" in page


async def test_what_is_measured_before_the_clock_is_known_counts_from_the_boot_and_is_sealed_as_such(
    pipeline: Pipeline, outbox: Outbox, clock: Clock, clocks: Clocks
) -> None:
    pipeline._clock = Clock.start("auto", not_before_ms=0, clocks=clock._clocks)
    clocks.error_ms = None
    pipeline.tell(pipeline._clock.look())
    early = Reading("F0:00:00:00:00:01", GLUCOSE, 101, 0, 4_000, extras=((Extra.SEQUENCE, 1),))
    before_the_boot = replace(early, time_ms=-60_000)
    pipeline.event("start")
    pipeline.submit(STREAM, [early, before_the_boot])
    clocks.error_ms = 10
    pipeline.tell(pipeline._clock.look())
    pipeline.submit(STREAM, [early])
    await pipeline.flush()
    counted, before, known = sealed_records(outbox)
    marks = {Extra.TIME_SOURCE: TimeSource.BOOT, Extra.BOOT: BOOT, Extra.SEQUENCE: 1}
    assert (counted.time_ms, dict(counted.extras)) == (4_000, marks | {Extra.BOOT_MS: 4_000})
    assert (before.time_ms, dict(before.extras)) == (0, marks | {Extra.BOOT_MS: -60_000})
    assert (known.time_ms, known.extras) == (NOW_MS - 1_000, early.extras)
    assert contents(outbox)[self_stream(GATEWAY)] == ["start", "clock-anchor"]


@pytest.mark.parametrize("by_ms", [365 * 86_400_000, -365 * 86_400_000, 3_600_000, -3_600_000])
async def test_a_step_of_the_clock_loses_and_reorders_nothing_and_stops_no_tick(
    pipeline: Pipeline, outbox: Outbox, clock: Clock, clocks: Clocks, by_ms: int
) -> None:
    task = asyncio.create_task(pipeline.run())
    for number in range(6):
        if number == 3:
            clocks.wall_ms += by_ms
            pipeline.tell(clock.look())
        pipeline.submit(STREAM, [replace(reading(number), time_ms=clock.now_ms())])
        durable = pipeline._metrics.value("sealed_records_total")
        async with asyncio.timeout(10):
            while pipeline._metrics.value("sealed_records_total") == durable:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.005)
    pipeline.close()
    await task
    assert contents(outbox)[STREAM] == [0, 1, 2, 3, 4, 5]
    times_ms = [record.time_ms for record in sealed_records(outbox)]
    assert times_ms == [NOW_MS] * 3 + [NOW_MS + by_ms] * 3
    told = [code for code in contents(outbox)[self_stream(GATEWAY)] if code != "heartbeat"]
    assert told == ["clock-step", "clock-anchor", "shutdown"]
