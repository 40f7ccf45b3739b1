-- What readings come from, as a number instead of two texts a row. Rewrites every reading: about 30,000 rows a second.

CREATE TABLE sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id bigint NOT NULL REFERENCES streams,
    device text NOT NULL,
    -- NULL if it has none.
    session text,
    UNIQUE NULLS NOT DISTINCT (stream_id, device, session)
);
INSERT INTO sources (stream_id, device, session)
    SELECT DISTINCT stream_id, device, nullif(session, '') FROM reading_rows;

DROP VIEW readings;
ALTER TABLE reading_rows ADD source_id bigint;
UPDATE reading_rows SET source_id = sources.id FROM sources
    WHERE sources.stream_id = reading_rows.stream_id AND sources.device = reading_rows.device
        AND sources.session IS NOT DISTINCT FROM nullif(reading_rows.session, '');
ALTER TABLE reading_rows ALTER source_id SET NOT NULL, DROP device, DROP session;
CREATE VIEW readings AS
    SELECT streams.gateway, stream, chain, seq, device, metric, mantissa, exponent, time_ms, quality, sequence, session,
        backfilled, extras, received_ms
    FROM reading_rows JOIN sources ON sources.id = source_id JOIN streams ON streams.id = reading_rows.stream_id
        JOIN chains ON chains.id = chain_id;

-- A wearable's stored records, each by what makes it the same one again.
DROP TABLE device_records;
CREATE TABLE device_records (
    source_id bigint NOT NULL,
    metric bigint NOT NULL,
    sequence bigint NOT NULL,
    mantissa bigint,
    exponent smallint NOT NULL,
    received_ms bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (source_id, metric, sequence, mantissa, exponent)
);
INSERT INTO device_records
    SELECT source_id, metric, sequence, mantissa, exponent, min(received_ms) FROM reading_rows WHERE sequence IS NOT NULL
    GROUP BY source_id, metric, sequence, mantissa, exponent;

GRANT SELECT, INSERT ON sources, device_records TO iomt_worker;
GRANT SELECT ON readings TO iomt_worker, iomt_reader;
GRANT SELECT ON sources TO iomt_reader;
GRANT SELECT, DELETE ON sources, device_records TO iomt_eraser;
