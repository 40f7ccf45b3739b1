"""Times that count from a gateway's boot are corrected by the boot's best anchor, whichever of the two comes first."""

import itertools
import json
from dataclasses import replace

import pytest

from gateway.envelope.seal import self_stream
from gateway.model import Batch, Event, Extra, Record, TimeSource
from tests.receiver.conftest import NOW_MS, Box, Cloud

STREAM, ANOTHER, BOOT, OTHER_BOOT = b"\x0a" * 16, b"\x0b" * 16, b"\xb0" * 16, b"\xb1" * 16
HOUR_MS = 3_600_000


def counting(boot_ms: int, *, boot: bytes = BOOT, uncertainty_ms: int = 7) -> Record:
    """A reading of a gateway that knew no time."""
    extras = (
        (int(Extra.TIME_SOURCE), int(TimeSource.BOOT)),
        (int(Extra.UNCERTAINTY_MS), uncertainty_ms),
        (int(Extra.BOOT), boot),
        (int(Extra.BOOT_MS), boot_ms),
    )
    return Record("C0:00:00:00:00:01", 1, 100, 0, max(boot_ms, 0), extras=extras)


def anchor(gw: Box, boot_ms: int, *, boot: bytes = BOOT, error_ms: int = 20, wall_ms: int = NOW_MS) -> Batch:
    details = (boot, boot_ms, wall_ms, error_ms, "ntp")
    return Batch(self_stream(gw.gateway), (Event(wall_ms, "clock-anchor", details),))


def times(cloud: Cloud) -> list[tuple[int, int, int]]:
    """(time, source, uncertainty) of all readings, as their numbers ascend."""
    rows = cloud.rows("SELECT time_ms, extras FROM readings ORDER BY chain, seq")
    told = [(time_ms, json.loads(extras)) for time_ms, extras in rows]
    return [(time_ms, extras["1"], extras["2"]) for time_ms, extras in told]


def test_a_record_keeps_its_boots_time_until_an_anchor_comes(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(STREAM, (counting(5_000), counting(-9_000)))))
    assert times(cloud) == [(5_000, TimeSource.BOOT, 7), (0, TimeSource.BOOT, 7)]
    cloud.take(gw.message(anchor(gw, HOUR_MS)))
    assert times(cloud) == [
        (NOW_MS - HOUR_MS + 5_000, TimeSource.ANCHORED, 7 + 20 + 359),
        (NOW_MS - HOUR_MS - 9_000, TimeSource.ANCHORED, 7 + 20 + 360),
    ]


def test_what_was_corrected_keeps_what_the_gateway_said(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(STREAM, (counting(-9_000),)), anchor(gw, HOUR_MS)))
    [(extras,)] = cloud.rows("SELECT extras FROM readings")
    told = json.loads(extras)
    assert (told[str(int(Extra.BOOT))], told[str(int(Extra.BOOT_MS))]) == (BOOT.hex(), -9_000)


def test_every_order_of_arrival_over_two_chains_of_one_boot_comes_to_the_same(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(Batch(STREAM, (counting(1_000),)))]
    gw.restart(gw.head)
    messages.append(gw.message(Batch(STREAM, (counting(2_000),))))
    messages.append(gw.message(anchor(gw, 3_000, error_ms=500)))
    messages.append(gw.message(anchor(gw, 4_000, error_ms=10, wall_ms=NOW_MS + 1_250)))
    messages.append(gw.message(Batch(STREAM, (counting(2_500),))))
    expected = None
    for number, order in enumerate(itertools.permutations(messages)):
        fresh = Cloud(cloud.directory.with_name(f"receiver-{number}"), cloud.boxes)
        for message in order:
            fresh.settle(message)
        found = sorted(times(fresh))
        fresh.store.close()
        expected = expected or found
        assert found == expected
    assert expected == [(NOW_MS + 1_250 - ago, TimeSource.ANCHORED, 17) for ago in (3_000, 2_000, 1_500)]


def test_an_anchor_holds_for_its_own_boot_and_gateway_alone(gw: Box, other: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(STREAM, (counting(1_000), counting(1_000, boot=OTHER_BOOT)))))
    cloud.take(other.message(anchor(other, 2_000), Batch(STREAM, (counting(1_000, boot=OTHER_BOOT),))))
    assert {time_ms for time_ms, _, _ in times(cloud)} == {1_000}
    cloud.take(gw.message(anchor(gw, 2_000)))
    assert [row for row in times(cloud) if row[1] == TimeSource.ANCHORED] == [(NOW_MS - 1_000, 5, 27)]


@pytest.mark.parametrize("streams", [(STREAM, ANOTHER), (ANOTHER, STREAM)])
def test_the_time_of_a_repetition_that_was_not_kept_corrects_no_other_streams_record(
    gw: Box, cloud: Cloud, streams: tuple[bytes, bytes]
) -> None:
    kept = counting(1_000, uncertainty_ms=900_000)
    kept = replace(kept, extras=((int(Extra.SEQUENCE), 1), *kept.extras))
    other = replace(counting(2_000), device="C0:00:00:00:00:02")
    cloud.take(gw.message(Batch(streams[0], (kept,)), Batch(streams[1], (other,))))
    cloud.take(gw.message(Batch(streams[0], (kept,))))
    cloud.take(gw.message(Batch(streams[1], (other,))))
    cloud.take(gw.message(anchor(gw, 3_000)))
    assert sorted(times(cloud)) == [(NOW_MS - 2_000, 5, 900_020), (NOW_MS - 1_000, 5, 27), (NOW_MS - 1_000, 5, 27)]


def test_events_are_corrected_too(gw: Box, cloud: Cloud) -> None:
    started = Event(1_500, "start", ("0.1.0",), BOOT)
    cloud.take(gw.message(Batch(self_stream(gw.gateway), (started,))))
    assert cloud.rows("SELECT time_ms FROM events") == [(1_500,)]
    cloud.take(gw.message(anchor(gw, 2_000)))
    assert cloud.rows("SELECT time_ms FROM events ORDER BY seq") == [(NOW_MS - 500,), (NOW_MS,)]


def test_a_record_with_a_known_time_is_never_touched(gw: Box, cloud: Cloud) -> None:
    known = replace(counting(5_000), time_ms=NOW_MS, extras=((int(Extra.UNCERTAINTY_MS), 3),))
    cloud.take(gw.message(Batch(STREAM, (known,)), anchor(gw, 2_000)))
    assert cloud.rows("SELECT time_ms, extras FROM readings") == [(NOW_MS, '{"2":3}')]


@pytest.mark.parametrize(
    "details",
    [(), (BOOT,), (b"short", 1, 2, 3), (BOOT, -1, 2, 3), (BOOT, 1, "two", 3), (BOOT, 1, 2, -3)],
)
def test_an_anchor_that_says_nothing_is_kept_as_an_event_and_ignored(
    gw: Box, cloud: Cloud, details: tuple[int | str | bytes | None, ...]
) -> None:
    wrong = Batch(self_stream(gw.gateway), (Event(NOW_MS, "clock-anchor", details),))
    cloud.take(gw.message(wrong, Batch(STREAM, (counting(1_000),))))
    assert [time_ms for time_ms, _, _ in times(cloud)] == [1_000]
    assert cloud.rows("SELECT code FROM events") == [("clock-anchor",)]


def test_extras_that_say_nothing_about_a_boot_are_kept_as_they_are(gw: Box, cloud: Cloud) -> None:
    odd = replace(counting(1_000), extras=((int(Extra.BOOT), "text"), (int(Extra.BOOT_MS), b"bytes")))
    cloud.take(gw.message(Batch(STREAM, (odd,)), anchor(gw, 2_000)))
    assert cloud.rows("SELECT time_ms, extras FROM readings") == [(1_000, '{"14":"text","15":"6279746573"}')]
