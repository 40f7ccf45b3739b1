"""What is PostgreSQL's alone: several workers, lost connections, roles, partitions, migrations."""

import multiprocessing
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.errors import StoreError
from gateway.lab.postgres import Cluster
from gateway.model import Batch
from gateway.receiver import queries
from gateway.receiver.plan import Message
from gateway.receiver.postgres import schema
from gateway.receiver.postgres.store import PostgresStore
from gateway.receiver.store import next_incarnation
from gateway.receiver.summary import summary
from tests.receiver.conftest import NOW_MS, Box, Cloud, Database

A, B = b"\x0a" * 16, b"\x0b" * 16
DAY_MS = 86_400_000
GATEWAYS = tuple(f"gw-{number}" for number in range(1, 9))


@pytest.fixture
def cloud(database: Database, tmp_path: Path, gw: Box, other: Box) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path / "receiver", {gw.gateway: gw, other.gateway: other}, database)
    yield cloud
    cloud.store.close()


def work(directory: Path, database: Database, messages: list[Message], seed: int) -> int:
    """One worker process: takes all messages in an order of its own, in bunches; how often another was in the way."""
    source = random.Random(seed)
    cloud = Cloud(directory, {name: Box(name) for name in GATEWAYS}, database)
    refused = 0
    deliveries = messages * 3
    source.shuffle(deliveries)
    while deliveries:
        bunch = deliveries[: source.randint(1, 40)]
        try:
            cloud.settle(*bunch)
        except StoreError:
            refused += 1
        else:
            del deliveries[: len(bunch)]
    cloud.store.close()
    return refused


def test_redeliveries_in_any_order_to_several_workers_end_in_the_same_rows(cloud: Cloud, tmp_path: Path) -> None:
    boxes = [Box(name) for name in GATEWAYS]
    messages = []
    for box in boxes:
        for _ in range(2):
            messages += [box.message(Batch(A, box.records(2)), Batch(B, box.records(1))) for _ in range(15)]
            box.restart(box.head)
    messages += [Message("gw-1", bytes([0, number])) for number in range(10)]
    assert cloud.postgres
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as workers:
        tasks = [workers.submit(work, cloud.directory, cloud.postgres, messages, seed) for seed in range(4)]
        assert [task.result() for task in tasks] == [0] * 4
    reference = Cloud(tmp_path / "reference", {box.gateway: box for box in boxes})
    reference.settle(*messages)
    assert cloud.everything() == reference.everything()
    assert cloud.rows("SELECT count(*) FROM parked") == [(0,)]
    assert cloud.rows("SELECT count(*) FROM forks") == [(0,)]
    reference.store.close()


def test_counters_of_a_gateway_ascend_over_all_workers(gw: Box, cloud: Cloud) -> None:
    message = gw.tick()
    second = Cloud(cloud.directory, cloud.boxes, cloud.postgres)
    counters = [each.receipts(each.take(message))["gw-1"].counter for each in (cloud, second, cloud, second)]
    assert counters == sorted(set(counters))
    second.store.close()


def test_a_worker_waits_for_another_that_decides_about_the_same_gateway_and_not_for_others(
    gw: Box, other: Box, cloud: Cloud
) -> None:
    second = Cloud(cloud.directory, cloud.boxes, cloud.postgres)
    cloud.take(gw.tick(), other.tick())
    held = cloud.take(gw.tick()).plan.bundles
    cloud.store.load(held)
    second.take(other.tick())
    assert isinstance(second.store, PostgresStore)
    second.store._connection.execute("SET lock_timeout TO '100ms'")
    second.store._connection.commit()
    with pytest.raises(StoreError, match="lock timeout"):
        second.take(gw.tick())
    cloud.store.close()
    cloud.open()
    second.take(gw.tick())
    second.store.close()


def test_a_server_that_crashed_costs_nothing(gw: Box, cloud: Cloud) -> None:
    with Cluster() as server:
        database = Database(server.create("crash"), server.url("crash"))
        cloud.store.close()
        cloud.postgres = database
        cloud.open()
        messages = [gw.tick() for _ in range(3)]
        cloud.take(messages[0])
        cloud.store.load([])
        server.stop()
        with pytest.raises(StoreError, match="PostgreSQL"):
            cloud.take(*messages)
        with pytest.raises(StoreError, match="cannot connect"):
            cloud.take(*messages)
        server.start()
        taken = cloud.take(*messages)
        assert (len(taken.plan.bundles), taken.plan.redelivered) == (2, 1)


def test_a_summary_is_one_snapshot_while_other_workers_commit(
    gw: Box, other: Box, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Cloud(cloud.directory, cloud.boxes, cloud.postgres)
    cloud.take(gw.tick())

    def interrupted(rows: Callable[[str], list[tuple[Any, ...]]]) -> dict[str, Any]:
        rows(queries.BUNDLES)
        second.take(other.tick())
        return summary(rows)

    monkeypatch.setattr("gateway.receiver.postgres.store.summary", interrupted)
    assert list(cloud.store.summary()["gateways"]) == ["gw-1"]
    monkeypatch.undo()
    assert list(cloud.store.summary()["gateways"]) == ["gw-1", "gw-2"]
    second.store.close()


def test_after_a_restore_every_worker_needs_the_new_incarnation(cloud: Cloud) -> None:
    old = cloud.store
    assert cloud.postgres
    assert next_incarnation(cloud.directory) == 2
    cloud.open()
    assert cloud.store.id.incarnation == 2
    with pytest.raises(StoreError, match="incarnation 2, this one with 1"):
        PostgresStore.open(cloud.postgres.worker, incarnation=1)
    old.close()
    with pytest.raises(StoreError, match="incarnation 2, this one with 1"):
        old.summary()


def test_a_worker_may_add_and_not_alter_what_was_stored(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    assert cloud.postgres
    with psycopg.connect(cloud.postgres.worker, options="-c search_path=iomt", autocommit=True) as worker:
        for statement in (
            "UPDATE reading_rows SET mantissa = 0",
            "DELETE FROM reading_rows",
            "DELETE FROM bundle_links",
            "UPDATE archive SET sign1 = ''",
            "DELETE FROM epoch_secrets",
            "DROP TABLE forks",
            "CREATE TABLE anything ()",
            "INSERT INTO migrations VALUES (99, 'x')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(statement.encode())


def test_a_reader_sees_readings_and_no_secret(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    assert cloud.postgres
    with psycopg.connect(cloud.postgres.owner, options="-c search_path=iomt", autocommit=True) as connection:
        connection.execute("SET ROLE iomt_reader")
        assert connection.execute("SELECT count(*) FROM readings").fetchall() == [(1,)]
        for table in ("epoch_secrets", "epoch_parts", "quarantine", "parked"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(table)))


def test_retention_drops_whole_months_and_the_keys_of_what_it_dropped(gw: Box, cloud: Cloud) -> None:
    months = [NOW_MS - 100 * DAY_MS, NOW_MS - 50 * DAY_MS, NOW_MS]
    for number, now_ms in enumerate(months):
        cloud.intake.take([gw.tick(bytes([number]) * 16)], now_ms=now_ms)
    assert cloud.postgres
    dropped = schema.retain(cloud.postgres.owner, days=40, now_ms=NOW_MS)
    assert dropped == [f"{table}_2026{month}" for table in ("archive", "reading_rows") for month in ("06", "07")]
    assert cloud.rows("SELECT received_ms FROM readings ORDER BY 1") == [(months[1],), (months[2],)]
    assert cloud.rows("SELECT received_ms FROM epoch_secrets ORDER BY 1") == [(months[1],), (months[2],)]
    assert cloud.rows("SELECT stream_id FROM sources ORDER BY 1") == [(2,), (3,)]
    assert cloud.rows("SELECT count(*) FROM bundle_links") == [(3,)]
    assert cloud.store.summary()["gateways"]["gw-1"]["missing_bundles"] == 0
    assert schema.retain(cloud.postgres.owner, days=40, now_ms=NOW_MS) == []


def test_migrations_apply_once_and_in_order(cluster: Cluster) -> None:
    database = Database(cluster.create("migrations"), cluster.url("migrations"))
    assert [number for number, _, _ in schema.migrations()] == list(range(1, schema.latest() + 1))
    assert schema.migrate(database.owner) == []
    database.rows("INSERT INTO migrations (version, name) VALUES (99, 'later')")
    with pytest.raises(StoreError, match="schema 99"):
        schema.migrate(database.owner)
    with pytest.raises(StoreError, match="schema 99"):
        PostgresStore.open(database.worker, incarnation=1)


def test_an_empty_database_is_refused_with_the_way_out(cluster: Cluster) -> None:
    with pytest.raises(StoreError, match="iomt-receiver store migrate"):
        PostgresStore.open(cluster.url("template1"), incarnation=1)


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot connect"):
        PostgresStore.open(f"postgresql://worker@/iomt?host={tmp_path}", incarnation=1)
