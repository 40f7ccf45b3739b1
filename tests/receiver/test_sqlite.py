"""The SQLite store: durable, exactly once, and honest when the database refuses."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.model import Batch
from gateway.receiver.sqlite import DATABASE, SqliteStore, read_summary
from gateway.receiver.store import next_incarnation
from tests.receiver.conftest import NOW_MS, Box, Cloud

A, B = b"\x0a" * 16, b"\x0b" * 16

CHILD = """
import sys
from pathlib import Path
from tests.receiver.conftest import Box, Cloud, Message
cloud = Cloud(Path(sys.argv[1]), {"gw-1": Box("gw-1")})
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


def test_two_stores_are_never_the_same(tmp_path: Path) -> None:
    stores = [SqliteStore.open(tmp_path / name) for name in "ab"]
    assert stores[0].id.store != stores[1].id.store
    for store in stores:
        store.close()


def test_the_incarnation_grows_at_a_restore_and_is_not_restored_with_the_database(cloud: Cloud) -> None:
    assert cloud.store.id.incarnation == 1
    cloud.store.close()
    assert next_incarnation(cloud.directory) == 2
    cloud.open()
    assert cloud.store.id.incarnation == 2
    assert b"incarnation" not in (cloud.directory / DATABASE).read_bytes()


def test_a_database_without_its_incarnation_is_not_opened(cloud: Cloud) -> None:
    path = cloud.directory / "incarnation"
    path.unlink()
    with pytest.raises(StoreError, match="write a number higher"):
        SqliteStore.open(cloud.directory)
    path.write_text("0\n")
    with pytest.raises(StoreError, match="not a positive number"):
        SqliteStore.open(cloud.directory)


def test_the_database_is_its_owners_alone(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    files = list(cloud.directory.iterdir())
    assert {path.name for path in files} >= {DATABASE, f"{DATABASE}-wal", "incarnation"}
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_another_schema_is_refused(cloud: Cloud) -> None:
    with sqlite3.connect(cloud.directory / DATABASE) as database:
        database.execute("UPDATE store SET schema = 99")
    database.close()
    with pytest.raises(StoreError, match="schema 99"):
        SqliteStore.open(cloud.directory)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    next_incarnation(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=DATABASE):
        SqliteStore.open(tmp_path)


def test_a_database_that_refuses_costs_nothing(gw: Box, cloud: Cloud) -> None:
    messages = [gw.tick(), gw.tick()]
    before = cloud.everything()
    cloud.store._database.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="readonly"):
        cloud.take(*messages)
    cloud.store._database.execute("PRAGMA query_only = OFF")
    assert cloud.everything() == before
    assert len(cloud.take(*messages).plan.bundles) == 2


def test_a_commit_that_fails_half_way_leaves_nothing_behind(gw: Box, cloud: Cloud) -> None:
    plan = cloud.take(gw.tick()).plan
    before = cloud.everything()
    with pytest.raises(StoreError, match="UNIQUE"):
        cloud.store.commit(plan, now_ms=NOW_MS)
    assert cloud.everything() == before
    assert len(cloud.take(gw.tick()).plan.bundles) == 1


def test_a_full_disk_costs_nothing(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    before = cloud.everything()
    [(pages,)] = cloud.store._database.execute("PRAGMA page_count").fetchall()
    cloud.store._database.execute(f"PRAGMA max_page_count = {pages}")
    message = gw.message(Batch(A, gw.records(800)))
    with pytest.raises(StoreError, match="full"):
        cloud.take(message)
    assert cloud.everything() == before
    cloud.store._database.execute("PRAGMA max_page_count = 100000")
    assert len(cloud.take(message).plan.bundles) == 1


def test_a_receiver_killed_at_any_moment_stores_each_bundle_once(gw: Box, tmp_path: Path) -> None:
    messages = [gw.message(Batch(A, gw.records(40)), Batch(B, gw.records(40))) for _ in range(60)]
    source = random.Random(7)
    directory = tmp_path / "killed"
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory)],
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
        survived = Cloud(directory, {"gw-1": gw})
        assert survived.rows("SELECT count(*) FROM bundles") >= [(promised,)]
        assert survived.rows("PRAGMA integrity_check") == [("ok",)]
        survived.store.close()
    cloud, reference = Cloud(directory, {"gw-1": gw}), Cloud(tmp_path / "reference", {"gw-1": gw})
    for each in (cloud, reference):
        each.take(*messages)
        each.store.close()
    assert cloud.everything() == reference.everything()


def test_the_summary_tells_what_is_here_and_what_is_missing(gw: Box, cloud: Cloud) -> None:
    ticks = [gw.message(Batch(A, gw.records(2)), gw.gap(B, 3)) for _ in range(4)]
    cloud.take(ticks[0], ticks[2], ticks[3])
    summary = cloud.store.summary()
    assert read_summary(cloud.directory) == summary
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


def test_there_is_no_summary_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=DATABASE):
        read_summary(tmp_path)
    assert list(tmp_path.iterdir()) == []
