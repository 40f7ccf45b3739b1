"""The tables of the receiver's SQLite database, version 2. Times are UTC milliseconds since 1970."""

VERSION = 2

_READINGS = """
-- What readings come from: a device, in one of its sessions if it has them.
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL REFERENCES streams,
    device TEXT NOT NULL,
    session TEXT
) STRICT;
CREATE UNIQUE INDEX sources_by_name ON sources (stream_id, device, ifnull(session, ''));

CREATE TABLE reading_rows (
    id INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    source_id INTEGER NOT NULL,
    chain_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    metric INTEGER NOT NULL,
    mantissa INTEGER,
    exponent INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    quality INTEGER NOT NULL,
    sequence INTEGER,
    backfilled INTEGER NOT NULL,
    extras TEXT,
    received_ms INTEGER NOT NULL
) STRICT;
-- A wearable's stored record comes once. What has no sequence is never the same: in an index no NULL equals another.
CREATE UNIQUE INDEX device_records ON reading_rows
    (stream_id, source_id, metric, sequence, ifnull(mantissa, ''), exponent);

-- Records whose time counts from a boot of their gateway, as it sent them.
CREATE TABLE boot_times (
    stream_id INTEGER NOT NULL REFERENCES streams,
    chain_id INTEGER NOT NULL REFERENCES chains,
    seq INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    boot BLOB NOT NULL,
    boot_ms INTEGER NOT NULL,
    uncertainty_ms INTEGER NOT NULL,
    reading_id INTEGER,
    PRIMARY KEY (stream_id, chain_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX boot_times_by_boot ON boot_times (gateway, boot);

CREATE VIEW readings AS
    SELECT streams.gateway, stream, chain, seq, device, metric, mantissa, exponent, time_ms, quality, sequence, session,
        backfilled, extras, received_ms
    FROM reading_rows JOIN sources ON sources.id = source_id JOIN streams ON streams.id = reading_rows.stream_id
        JOIN chains ON chains.id = chain_id;
"""

TABLES = f"""
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    schema INTEGER NOT NULL,
    store BLOB NOT NULL,
    receipt_counter INTEGER NOT NULL
) STRICT;

CREATE TABLE chains (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    chain BLOB NOT NULL,
    signer BLOB,
    root INTEGER NOT NULL DEFAULT 0,
    predecessor BLOB,
    predecessor_no INTEGER,
    predecessor_hash BLOB,
    UNIQUE (gateway, chain)
) STRICT;
CREATE INDEX chains_by_predecessor ON chains (gateway, predecessor) WHERE predecessor IS NOT NULL;
CREATE INDEX root_chains ON chains (gateway) WHERE root = 1;

CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    stream BLOB NOT NULL,
    erased_ms INTEGER,
    UNIQUE (gateway, stream)
) STRICT;
CREATE INDEX erased_streams ON streams (gateway) WHERE erased_ms IS NOT NULL;

-- The archive: what each gateway signed. It verifies without the epoch parts, which can be erased per stream.
CREATE TABLE bundles (
    chain_id INTEGER NOT NULL REFERENCES chains,
    no INTEGER NOT NULL,
    hash BLOB NOT NULL,
    prev BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    sign1 BLOB NOT NULL,
    PRIMARY KEY (chain_id, no)
) STRICT;

CREATE TABLE epoch_parts (
    chain_id INTEGER NOT NULL REFERENCES chains,
    epoch INTEGER NOT NULL,
    stream_id INTEGER NOT NULL REFERENCES streams,
    part BLOB NOT NULL,
    PRIMARY KEY (chain_id, epoch)
) STRICT;

CREATE TABLE epoch_secrets (
    chain_id INTEGER NOT NULL REFERENCES chains,
    epoch INTEGER NOT NULL,
    stream_id INTEGER NOT NULL REFERENCES streams,
    secret BLOB NOT NULL,
    salt BLOB NOT NULL,
    PRIMARY KEY (chain_id, epoch)
) STRICT, WITHOUT ROWID;

-- Epochs of streams that were forgotten: nothing of them is ever opened again.
CREATE TABLE erased_epochs (
    chain_id INTEGER NOT NULL REFERENCES chains,
    epoch INTEGER NOT NULL,
    stream_id INTEGER NOT NULL REFERENCES streams,
    PRIMARY KEY (chain_id, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE erasure_certificates (
    id INTEGER PRIMARY KEY,
    stream BLOB NOT NULL,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE bundle_runs (
    chain_id INTEGER NOT NULL REFERENCES chains,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (chain_id, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE record_runs (
    stream_id INTEGER NOT NULL REFERENCES streams,
    chain_id INTEGER NOT NULL REFERENCES chains,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (stream_id, chain_id, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_rows (
    stream_id INTEGER NOT NULL REFERENCES streams,
    chain_id INTEGER NOT NULL REFERENCES chains,
    seq INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    code TEXT NOT NULL,
    details TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (stream_id, chain_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE gap_rows (
    stream_id INTEGER NOT NULL REFERENCES streams,
    chain_id INTEGER NOT NULL REFERENCES chains,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    cause TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (stream_id, chain_id, first)
) STRICT, WITHOUT ROWID;

-- When those boots were.
CREATE TABLE clock_anchors (
    gateway TEXT NOT NULL,
    boot BLOB NOT NULL,
    boot_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    error_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, boot, boot_ms)
) STRICT, WITHOUT ROWID;

-- Whose a stream is, and who said so. The log names streams and people of the staff, never a patient.
CREATE TABLE patients (
    stream_id INTEGER PRIMARY KEY REFERENCES streams,
    patient TEXT NOT NULL,
    assigned_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE desk_log (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    stream BLOB NOT NULL
) STRICT;

CREATE VIEW events AS
    SELECT streams.gateway, stream, chain, seq, time_ms, code, details, received_ms
    FROM event_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;
CREATE VIEW gaps AS
    SELECT streams.gateway, stream, chain, first, count, cause, from_ms, to_ms, received_ms
    FROM gap_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;

CREATE TABLE parked (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    chain BLOB NOT NULL,
    no INTEGER NOT NULL,
    hash BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (gateway, chain, no, hash)
) STRICT;
CREATE TABLE parked_needs (
    parked_id INTEGER NOT NULL REFERENCES parked ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (parked_id, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    gateway TEXT NOT NULL,
    cause TEXT NOT NULL,
    times INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE forks (
    gateway TEXT NOT NULL,
    cause TEXT NOT NULL,
    chain BLOB NOT NULL,
    no INTEGER NOT NULL,
    hash BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (gateway, cause, chain, no, hash)
) STRICT, WITHOUT ROWID;

{_READINGS}
INSERT INTO store VALUES (1, {VERSION}, randomblob(16), 0);
"""  # noqa: S608 - our own names

FROM_1 = f"""
DROP VIEW readings;
DROP INDEX device_records;
DROP INDEX boot_times_by_boot;
ALTER TABLE reading_rows RENAME TO old_rows;
ALTER TABLE boot_times RENAME TO old_times;
{_READINGS}
INSERT INTO sources (stream_id, device, session) SELECT DISTINCT stream_id, device, nullif(session, '') FROM old_rows;
INSERT INTO reading_rows (stream_id, source_id, chain_id, seq, metric, mantissa, exponent, time_ms, quality, sequence,
    backfilled, extras, received_ms)
SELECT old.stream_id, sources.id, chain_id, seq, metric, mantissa, exponent, time_ms, quality, sequence,
    backfilled, extras, received_ms
FROM old_rows AS old JOIN sources ON sources.stream_id = old.stream_id AND sources.device = old.device
    AND ifnull(sources.session, '') = ifnull(old.session, '');
INSERT INTO boot_times SELECT old.*, id FROM old_times AS old LEFT JOIN reading_rows AS new
    ON new.chain_id = old.chain_id AND new.seq = old.seq AND +new.stream_id = old.stream_id;
DROP TABLE old_rows;
DROP TABLE old_times;
UPDATE store SET schema = 2;
"""  # noqa: S608 - our own names
"""Brings a database of version 1 to this one. Its readings are written anew, about 250,000 a second."""
