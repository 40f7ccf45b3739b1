"""A store of an earlier version keeps all that it had, and goes on as if it had always been of this one."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.envelope.seal import self_stream
from gateway.model import Batch, Event, Extra, Record, TimeSource
from gateway.receiver.postgres import schema
from gateway.receiver.sqlite import DATABASE
from tests.receiver.conftest import NOW_MS, Box, Cloud, Database

A, B = b"\x0a" * 16, b"\x0b" * 16
BOOT = b"\xb0" * 16

SQLITE_1 = """
DROP VIEW readings;
ALTER TABLE reading_rows RENAME TO later_rows;
ALTER TABLE boot_times RENAME TO later_times;
DROP INDEX device_records;
DROP INDEX boot_times_by_boot;
CREATE TABLE reading_rows (
    stream_id INTEGER NOT NULL REFERENCES streams,
    chain_id INTEGER NOT NULL REFERENCES chains,
    seq INTEGER NOT NULL,
    device TEXT NOT NULL,
    metric INTEGER NOT NULL,
    mantissa INTEGER,
    exponent INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    quality INTEGER NOT NULL,
    sequence INTEGER,
    session TEXT,
    backfilled INTEGER NOT NULL,
    extras TEXT,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (stream_id, chain_id, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX device_records ON reading_rows
    (stream_id, device, metric, sequence, ifnull(session, ''), ifnull(mantissa, ''), exponent)
    WHERE sequence IS NOT NULL;
CREATE TABLE boot_times (
    stream_id INTEGER NOT NULL REFERENCES streams,
    chain_id INTEGER NOT NULL REFERENCES chains,
    seq INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    boot BLOB NOT NULL,
    boot_ms INTEGER NOT NULL,
    uncertainty_ms INTEGER NOT NULL,
    PRIMARY KEY (stream_id, chain_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX boot_times_by_boot ON boot_times (gateway, boot);
CREATE VIEW readings AS
    SELECT streams.gateway, stream, chain, seq, device, metric, mantissa, exponent, time_ms, quality, sequence, session,
        backfilled, extras, received_ms
    FROM reading_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;
INSERT INTO reading_rows SELECT later_rows.stream_id, chain_id, seq, device, metric, mantissa, exponent, time_ms,
    quality, sequence, ifnull(session, ''), backfilled, extras, received_ms
FROM later_rows JOIN sources ON sources.id = source_id;
INSERT INTO boot_times SELECT stream_id, chain_id, seq, gateway, boot, boot_ms, uncertainty_ms FROM later_times;
DROP TABLE later_rows;
DROP TABLE later_times;
DROP TABLE sources;
UPDATE store SET schema = 1;
"""

POSTGRES_3 = """
DROP VIEW readings;
ALTER TABLE reading_rows ADD device text, ADD session text;
UPDATE reading_rows SET device = sources.device, session = coalesce(sources.session, '')
FROM sources WHERE sources.id = source_id;
ALTER TABLE reading_rows ALTER device SET NOT NULL, DROP source_id;
DROP TABLE device_records;
CREATE TABLE device_records (
    stream_id bigint NOT NULL,
    record bytea NOT NULL,
    received_ms bigint NOT NULL,
    PRIMARY KEY (stream_id, record)
);
DROP TABLE sources;
CREATE VIEW readings AS
    SELECT streams.gateway, stream, chain, seq, device, metric, mantissa, exponent, time_ms, quality, sequence, session,
        backfilled, extras, received_ms
    FROM reading_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;
DELETE FROM migrations WHERE version > 3;
"""


def stored(number: int, *, session: str | None = None, mantissa: int | None = 5) -> Record:
    """A reading that a wearable keeps."""
    extras = ((Extra.SEQUENCE, number), *(((Extra.SESSION, session),) if session else ()))
    return Record("C0:00:00:00:00:01", 1, mantissa, -1, NOW_MS + number, extras=extras)


KEPT = (stored(1), stored(2), stored(1, session="s"), stored(1, session="t"), stored(3, mantissa=None))
COUNTING = Record(
    "C0:00:00:00:00:02",
    1,
    7,
    0,
    5_000,
    extras=(
        (int(Extra.TIME_SOURCE), int(TimeSource.BOOT)),
        (int(Extra.UNCERTAINTY_MS), 7),
        (int(Extra.BOOT), BOOT),
        (int(Extra.BOOT_MS), 5_000),
    ),
)


@pytest.fixture(params=["sqlite", "postgres"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path, gw: Box) -> Iterator[Cloud]:
    database = None
    if request.param == "postgres":
        cluster = request.getfixturevalue("cluster")
        name = f"earlier_{request.node.name}".replace("[postgres]", "")[:60]
        database = Database(cluster.create(name), cluster.url(name))
    cloud = Cloud(tmp_path / "receiver", {gw.gateway: gw}, database)
    yield cloud
    cloud.close()


def bring_up(cloud: Cloud) -> None:
    """Make the store one of the earlier version, and open it with this receiver."""
    cloud.store.close()
    if cloud.postgres is None:
        database = sqlite3.connect(cloud.directory / DATABASE)
        database.executescript(SQLITE_1)
        database.close()
    else:
        cloud.postgres.rows(POSTGRES_3)
        assert schema.migrate(cloud.postgres.owner)[0] == "0004_sources.sql"
    cloud.open()


def test_everything_is_kept(gw: Box, cloud: Cloud) -> None:
    messages = [gw.message(Batch(A, (*KEPT, *gw.records(3))), Batch(B, (*gw.records(2), *KEPT)), gw.gap(B, 2))]
    messages.append(gw.message(Batch(A, (COUNTING,))))
    cloud.take(*messages)
    before = cloud.everything()
    bring_up(cloud)
    assert cloud.everything() == before


def test_a_wearables_record_that_was_stored_before_is_known(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, KEPT)))
    bring_up(cloud)
    taken = cloud.take(gw.message(Batch(A, (*KEPT, stored(9))), Batch(B, KEPT)))
    assert taken.committed.repeated == len(KEPT)
    assert cloud.rows("SELECT count(*) FROM readings") == [(2 * len(KEPT) + 1,)]


def test_a_time_that_waits_for_its_anchor_is_corrected(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, (stored(1), COUNTING))))
    bring_up(cloud)
    anchor = Event(NOW_MS, "clock-anchor", (BOOT, 0, NOW_MS, 20, "ntp"))
    cloud.take(gw.message(Batch(self_stream(gw.gateway), (anchor,))))
    assert cloud.rows("SELECT time_ms FROM readings ORDER BY seq") == [(NOW_MS + 1,), (NOW_MS + 5_000,)]
