"""What is SQLite's alone."""

import sqlite3
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.model import Batch
from gateway.receiver.sqlite import DATABASE, SqliteStore, read_summary
from gateway.receiver.store import next_incarnation
from tests.receiver.conftest import Box, Cloud

A = b"\x0a" * 16


@pytest.fixture
def cloud(sqlite_cloud: Cloud) -> Cloud:
    return sqlite_cloud


def sqlite(cloud: Cloud) -> sqlite3.Connection:
    assert isinstance(cloud.store, SqliteStore)
    return cloud.store._database


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
    sqlite(cloud).execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="readonly"):
        cloud.take(*messages)
    sqlite(cloud).execute("PRAGMA query_only = OFF")
    assert cloud.everything() == before
    assert len(cloud.take(*messages).plan.bundles) == 2


def test_a_full_disk_costs_nothing(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    before = cloud.everything()
    [(pages,)] = sqlite(cloud).execute("PRAGMA page_count").fetchall()
    sqlite(cloud).execute(f"PRAGMA max_page_count = {pages}")
    message = gw.message(Batch(A, gw.records(800)))
    with pytest.raises(StoreError, match="full"):
        cloud.take(message)
    assert cloud.everything() == before
    sqlite(cloud).execute("PRAGMA max_page_count = 100000")
    assert len(cloud.take(message).plan.bundles) == 1


def test_the_summary_is_also_read_beside_a_running_receiver(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.tick())
    assert read_summary(cloud.directory) == cloud.store.summary()


def test_there_is_no_summary_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=DATABASE):
        read_summary(tmp_path)
    assert list(tmp_path.iterdir()) == []
