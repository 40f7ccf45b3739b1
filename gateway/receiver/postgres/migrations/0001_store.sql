-- The receiver's tables. Times are UTC milliseconds since 1970; ids in bytea are as on the wire.

-- Group roles without login: whoever logs in is granted one of them (docs/receiver.md).
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['iomt_worker', 'iomt_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END $$;

CREATE TABLE store (
    id smallint PRIMARY KEY CHECK (id = 1),
    store bytea NOT NULL,
    incarnation bigint NOT NULL
);
INSERT INTO store VALUES (1, uuid_send(gen_random_uuid()), 0);
CREATE SEQUENCE receipt_counter;

-- One row a gateway, locked by the worker that decides about its bundles.
CREATE TABLE gateways (gateway text PRIMARY KEY);

CREATE TABLE chains (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL REFERENCES gateways,
    chain bytea NOT NULL,
    signer bytea,
    root smallint NOT NULL DEFAULT 0,
    predecessor bytea,
    predecessor_no bigint,
    predecessor_hash bytea,
    UNIQUE (gateway, chain)
);
CREATE INDEX chains_by_predecessor ON chains (gateway, predecessor) WHERE predecessor IS NOT NULL;
CREATE INDEX root_chains ON chains (gateway) WHERE root = 1;

CREATE TABLE streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL REFERENCES gateways,
    stream bytea NOT NULL,
    UNIQUE (gateway, stream)
);

-- What is compared with arrivals. Its key is also what keeps a bundle from being stored twice.
CREATE TABLE bundle_links (
    chain_id bigint NOT NULL,
    no bigint NOT NULL,
    received_ms bigint NOT NULL,
    hash bytea NOT NULL,
    prev bytea NOT NULL,
    PRIMARY KEY (chain_id, no)
);

-- The archive: what each gateway signed. It verifies without the epoch parts, which can be erased per stream.
CREATE TABLE archive (
    chain_id bigint NOT NULL,
    no bigint NOT NULL,
    received_ms bigint NOT NULL,
    sign1 bytea NOT NULL
) PARTITION BY RANGE (received_ms);
CREATE INDEX archive_place ON archive (chain_id, no);

CREATE VIEW bundles AS
    SELECT chain_id, no, hash, prev, received_ms, sign1 FROM bundle_links LEFT JOIN archive USING (chain_id, no, received_ms);

CREATE TABLE epoch_parts (
    chain_id bigint NOT NULL REFERENCES chains,
    epoch bigint NOT NULL,
    stream_id bigint NOT NULL REFERENCES streams,
    received_ms bigint NOT NULL,
    part bytea NOT NULL,
    PRIMARY KEY (chain_id, epoch)
);
CREATE INDEX epoch_parts_of_stream ON epoch_parts (stream_id);

CREATE TABLE epoch_secrets (
    chain_id bigint NOT NULL REFERENCES chains,
    epoch bigint NOT NULL,
    stream_id bigint NOT NULL REFERENCES streams,
    received_ms bigint NOT NULL,
    secret bytea NOT NULL,
    salt bytea NOT NULL,
    PRIMARY KEY (chain_id, epoch)
);
CREATE INDEX epoch_secrets_of_stream ON epoch_secrets (stream_id);

CREATE TABLE bundle_runs (
    chain_id bigint NOT NULL REFERENCES chains,
    first bigint NOT NULL,
    last bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (chain_id, first)
) WITH (fillfactor = 50);

CREATE TABLE record_runs (
    stream_id bigint NOT NULL REFERENCES streams,
    chain_id bigint NOT NULL REFERENCES chains,
    first bigint NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (chain_id, stream_id, first)
) WITH (fillfactor = 50);

-- Partitioned by when it arrived: the receiver's clock is one clock, a wearable's may say anything.
CREATE TABLE reading_rows (
    stream_id bigint NOT NULL,
    chain_id bigint NOT NULL,
    seq bigint NOT NULL,
    metric bigint NOT NULL,
    mantissa bigint,
    time_ms bigint NOT NULL,
    sequence bigint,
    received_ms bigint NOT NULL,
    exponent smallint NOT NULL,
    quality smallint NOT NULL,
    backfilled smallint NOT NULL,
    device text NOT NULL,
    session text,
    extras text
) PARTITION BY RANGE (received_ms);
CREATE INDEX reading_rows_by_time ON reading_rows (stream_id, time_ms);

-- A wearable's stored records, by the first half of SHA-256 of what makes each one what it is.
CREATE TABLE device_records (
    stream_id bigint NOT NULL,
    record bytea NOT NULL,
    received_ms bigint NOT NULL,
    PRIMARY KEY (stream_id, record)
);

CREATE TABLE event_rows (
    stream_id bigint NOT NULL REFERENCES streams,
    chain_id bigint NOT NULL REFERENCES chains,
    seq bigint NOT NULL,
    time_ms bigint NOT NULL,
    code text NOT NULL,
    details text NOT NULL,
    received_ms bigint NOT NULL,
    PRIMARY KEY (stream_id, chain_id, seq)
);

CREATE TABLE gap_rows (
    stream_id bigint NOT NULL REFERENCES streams,
    chain_id bigint NOT NULL REFERENCES chains,
    first bigint NOT NULL,
    count bigint NOT NULL,
    cause text NOT NULL,
    from_ms bigint NOT NULL,
    to_ms bigint NOT NULL,
    received_ms bigint NOT NULL,
    PRIMARY KEY (stream_id, chain_id, first)
);

-- Records whose time counts from a boot of their gateway, and when those boots were.
CREATE TABLE boot_times (
    stream_id bigint NOT NULL REFERENCES streams,
    chain_id bigint NOT NULL REFERENCES chains,
    seq bigint NOT NULL,
    boot_ms bigint NOT NULL,
    uncertainty_ms bigint NOT NULL,
    -- Where the reading lies: its time now, and its partition.
    time_ms bigint NOT NULL,
    received_ms bigint NOT NULL,
    -- The boot_ms of the anchor that it was corrected by.
    corrected_by bigint,
    gateway text NOT NULL,
    boot bytea NOT NULL,
    PRIMARY KEY (stream_id, chain_id, seq)
);
CREATE INDEX boot_times_by_boot ON boot_times (gateway, boot);
CREATE TABLE clock_anchors (
    gateway text NOT NULL,
    boot bytea NOT NULL,
    boot_ms bigint NOT NULL,
    wall_ms bigint NOT NULL,
    error_ms bigint NOT NULL,
    PRIMARY KEY (gateway, boot, boot_ms)
);

CREATE VIEW readings AS
    SELECT streams.gateway, stream, chain, seq, device, metric, mantissa, exponent, time_ms, quality, sequence, session,
        backfilled, extras, received_ms
    FROM reading_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;
CREATE VIEW events AS
    SELECT streams.gateway, stream, chain, seq, time_ms, code, details, received_ms
    FROM event_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;
CREATE VIEW gaps AS
    SELECT streams.gateway, stream, chain, first, count, cause, from_ms, to_ms, received_ms
    FROM gap_rows JOIN streams ON streams.id = stream_id JOIN chains ON chains.id = chain_id;

CREATE TABLE parked (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL,
    chain bytea NOT NULL,
    no bigint NOT NULL,
    hash bytea NOT NULL,
    received_ms bigint NOT NULL,
    payload bytea NOT NULL,
    UNIQUE (gateway, chain, no, hash)
);
CREATE TABLE parked_needs (
    parked_id bigint NOT NULL REFERENCES parked ON DELETE CASCADE,
    epoch bigint NOT NULL,
    PRIMARY KEY (parked_id, epoch)
);

CREATE TABLE quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    gateway text NOT NULL,
    cause text NOT NULL,
    times bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    size_bytes bigint NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE forks (
    gateway text NOT NULL,
    cause text NOT NULL,
    chain bytea NOT NULL,
    no bigint NOT NULL,
    hash bytea NOT NULL,
    received_ms bigint NOT NULL,
    PRIMARY KEY (gateway, cause, chain, no, hash)
);

-- Sealed bytes do not compress.
ALTER TABLE archive ALTER sign1 SET STORAGE EXTERNAL;
ALTER TABLE epoch_parts ALTER part SET STORAGE EXTERNAL;
ALTER TABLE parked ALTER payload SET STORAGE EXTERNAL;
ALTER TABLE quarantine ALTER payload SET STORAGE EXTERNAL;

-- Partitions of the UTC month of `at_ms` and of the next one. Workers may ask for them; they may create nothing else.
CREATE FUNCTION ensure_partitions(at_ms bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = iomt, pg_temp AS $$
DECLARE
    parent text;
    part text;
    month timestamp;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('iomt.ensure_partitions'));
    FOR ahead IN 0..1 LOOP
        month := date_trunc('month', to_timestamp(at_ms / 1000.0) AT TIME ZONE 'UTC') + ahead * interval '1 month';
        FOREACH parent IN ARRAY ARRAY['reading_rows', 'archive'] LOOP
            part := format('%s_%s', parent, to_char(month, 'YYYYMM'));
            IF to_regclass(part) IS NULL THEN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part,
                    (extract(epoch FROM month) * 1000)::bigint,
                    (extract(epoch FROM month + interval '1 month') * 1000)::bigint);
            END IF;
        END LOOP;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION ensure_partitions FROM PUBLIC;

GRANT USAGE ON SCHEMA iomt TO iomt_worker, iomt_reader;
GRANT EXECUTE ON FUNCTION ensure_partitions TO iomt_worker;
GRANT USAGE ON SEQUENCE receipt_counter TO iomt_worker;
GRANT SELECT ON ALL TABLES IN SCHEMA iomt TO iomt_worker;
GRANT UPDATE (incarnation) ON store TO iomt_worker;
-- UPDATE is what it takes to lock a row.
GRANT INSERT, UPDATE ON gateways, chains, quarantine TO iomt_worker;
GRANT INSERT, UPDATE, DELETE ON bundle_runs, record_runs TO iomt_worker;
GRANT INSERT ON streams, bundle_links, archive, epoch_parts, epoch_secrets, reading_rows, device_records, event_rows,
    gap_rows, boot_times, clock_anchors, parked, parked_needs, forks TO iomt_worker;
GRANT DELETE ON parked, parked_needs, quarantine TO iomt_worker;
-- What an anchor corrects.
GRANT UPDATE (time_ms, extras) ON reading_rows TO iomt_worker;
GRANT UPDATE (time_ms) ON event_rows TO iomt_worker;
GRANT UPDATE (time_ms, corrected_by) ON boot_times TO iomt_worker;
-- Neither secrets nor what was quarantined.
GRANT SELECT ON store, chains, streams, bundle_links, archive, bundles, bundle_runs, record_runs, reading_rows, event_rows,
    gap_rows, readings, events, gaps, forks TO iomt_reader;
