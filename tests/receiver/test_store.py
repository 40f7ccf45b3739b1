"""What both stores promise beside the rules of `test_ingest.py`: durable, exactly once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.model import Batch, Event, Extra, Record
from tests.receiver.conftest import NOW_MS, Box, Cloud

A, B = b"\x0a" * 16, b"\x0b" * 16

CHILD = """
import sys
from pathlib import Path
from tests.receiver.conftest import Box, Cloud, Database, Message
cloud = Cloud(Path(sys.argv[1]), {"gw-1": Box("gw-1")}, Database(*sys.argv[2:]) if sys.argv[2:] else None)
print("ready", flush=True)
for line in sys.stdin:
    cloud.take(Message("gw-1", bytes.fromhex(line)))
    print("committed", flush=True)
"""


def test_a_store_keeps_its_identity_and_counts_receipts_on(gw: Box, cloud: Cloud) -> None:
    message = gw.tick()
    store, before = cloud.store.id, cloud.receipts(cloud.take(message))["gw-1"].counter
    cloud.store.close()
    cloud.open()
    assert cloud.store.id == store
    assert cloud.receipts(cloud.take(message))["gw-1"].counter == before + 1


def test_a_commit_that_fails_half_way_leaves_nothing_behind(gw: Box, cloud: Cloud) -> None:
    plan = cloud.take(gw.tick()).plan
    before = cloud.everything()
    with pytest.raises(StoreError, match=r"(?i)unique"):
        cloud.store.commit(plan, now_ms=NOW_MS)
    assert cloud.everything() == before
    assert len(cloud.take(gw.tick()).plan.bundles) == 1


def test_a_receiver_killed_at_any_moment_stores_each_bundle_once(gw: Box, cloud: Cloud, tmp_path: Path) -> None:
    messages = [gw.message(Batch(A, gw.records(40)), Batch(B, gw.records(40))) for _ in range(60)]
    source = random.Random(7)
    database = (cloud.postgres.worker, cloud.postgres.owner) if cloud.postgres else ()
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(cloud.directory), *database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdin
        assert child.stdout
        child.stdin.write("".join(f"{message.payload.hex()}\n" for message in messages))
        child.stdin.flush()
        assert child.stdout.readline() == "ready\n"
        time.sleep(source.uniform(0, 0.05))
        child.kill()
        promised = child.stdout.read().count("committed")
        child.stdin.close()
        child.stdout.close()
        child.wait()
        assert cloud.rows("SELECT count(*) FROM bundles") >= [(promised,)]
    reference = Cloud(tmp_path / "reference", {"gw-1": gw})
    for each in (cloud, reference):
        each.take(*messages)
    reference.store.close()
    assert cloud.everything() == reference.everything()


def test_the_summary_tells_what_is_here_and_what_is_missing(gw: Box, cloud: Cloud) -> None:
    ticks = [gw.message(Batch(A, gw.records(2)), gw.gap(B, 3)) for _ in range(4)]
    cloud.take(ticks[0], ticks[2], ticks[3])
    summary = cloud.store.summary()
    assert (summary["parked"], summary["quarantined"]) == (0, {})
    entry = summary["gateways"]["gw-1"]
    assert (entry["bundles"], entry["missing_bundles"], entry["forks"]) == (3, 1, 0)
    assert entry["streams"] == {
        A.hex(): {
            "records": 6,
            "readings": 6,
            "explained": 0,
            "missing": 2,
            "first_ms": NOW_MS,
            "last_ms": NOW_MS + 7,
        },
        B.hex(): {"records": 0, "readings": 0, "explained": 9, "missing": 3, "first_ms": None, "last_ms": None},
    }


def test_the_newest_bundle_of_each_gateway_is_known(gw: Box, other: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick(), other.tick())
    assert cloud.store.last_received_ms() == {"gw-1": NOW_MS, "gw-2": NOW_MS}


def test_text_of_any_characters_is_stored(gw: Box, cloud: Cloud) -> None:
    record = Record(
        "C0\0\N{GRINNING FACE}", 7, None, 0, NOW_MS, extras=((Extra.SESSION, "\0\t\\N"), (Extra.DEVICE_TIME, "\0"))
    )
    cloud.take(gw.message(Batch(A, (record,)), Batch(B, (Event(NOW_MS, "x\0", ("\0",)),))))
    assert cloud.rows("SELECT mantissa, extras FROM readings") == [(None, '{"5":"\\u0000"}')]
    assert cloud.rows("SELECT details FROM events") == [('["\\u0000"]',)]


def test_extreme_numbers_are_stored(gw: Box, cloud: Cloud) -> None:
    largest = 2**53 - 1
    record = Record("d", 2**32 - 1, -largest, -128, largest, extras=((Extra.SEQUENCE, largest),))
    cloud.take(gw.message(Batch(A, (record,))))
    assert cloud.rows("SELECT metric, mantissa, exponent, time_ms, sequence FROM readings") == [
        (2**32 - 1, -largest, -128, largest, largest)
    ]
