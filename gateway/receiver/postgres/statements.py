"""What the writer says to PostgreSQL: each statement takes its rows as one array a column, or by COPY."""

from gateway.receiver.rows import READING

CHAINS = """
INSERT INTO chains (gateway, chain, signer) SELECT * FROM unnest(%s::text[], %s::bytea[], %s::bytea[])
ON CONFLICT (gateway, chain) DO UPDATE SET signer = coalesce(chains.signer, excluded.signer)
RETURNING gateway, chain, id
"""
OPENINGS = """
UPDATE chains SET root = opening.root, predecessor = opening.predecessor, predecessor_no = opening.no,
    predecessor_hash = opening.hash
FROM unnest(%s::bigint[], %s::smallint[], %s::bytea[], %s::bigint[], %s::bytea[])
    AS opening (id, root, predecessor, no, hash)
WHERE chains.id = opening.id
"""
FIND_STREAMS = """
SELECT gateway, stream, id FROM unnest(%s::text[], %s::bytea[]) AS wanted (gateway, stream)
JOIN streams USING (gateway, stream)
"""
NEW_STREAMS = """
INSERT INTO streams (gateway, stream) SELECT * FROM unnest(%s::text[], %s::bytea[]) RETURNING gateway, stream, id
"""
FIND_SOURCES = """
SELECT wanted.*, id FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS wanted (stream_id, device, session)
JOIN sources USING (stream_id, device) WHERE sources.session IS NOT DISTINCT FROM wanted.session
"""
NEW_SOURCES = """
INSERT INTO sources (stream_id, device, session) SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[])
RETURNING stream_id, device, session, id
"""
EPOCH_PARTS = (
    "INSERT INTO epoch_parts SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])"
)
EPOCH_SECRETS = """
INSERT INTO epoch_secrets
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[], %s::bytea[])
"""
DROP_BUNDLE_RUNS = """
DELETE FROM bundle_runs USING unnest(%s::bigint[], %s::bigint[]) AS gone (chain_id, first)
WHERE bundle_runs.chain_id = gone.chain_id AND bundle_runs.first = gone.first
"""
BUNDLE_RUNS = """
INSERT INTO bundle_runs SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])
ON CONFLICT (chain_id, first) DO UPDATE SET last = excluded.last, hash = excluded.hash
"""
DROP_RECORD_RUNS = """
DELETE FROM record_runs USING unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS gone (stream_id, chain_id, first)
WHERE record_runs.stream_id = gone.stream_id AND record_runs.chain_id = gone.chain_id AND record_runs.first = gone.first
"""
RECORD_RUNS = """
INSERT INTO record_runs SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
ON CONFLICT (chain_id, stream_id, first) DO UPDATE SET last = excluded.last
"""
DEVICE_RECORDS = """
INSERT INTO device_records
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[])
ON CONFLICT DO NOTHING RETURNING source_id, metric, sequence, mantissa, exponent
"""
COPY_READINGS = f"COPY reading_rows ({', '.join(READING)}) FROM STDIN (FORMAT BINARY)"
READING_TYPES = ("int8",) * 9 + ("int2",) * 3 + ("text",)
COPY_LINKS = "COPY bundle_links (chain_id, no, received_ms, hash, prev) FROM STDIN (FORMAT BINARY)"
COPY_ARCHIVE = "COPY archive (chain_id, no, received_ms, sign1) FROM STDIN (FORMAT BINARY)"
COPY_EVENTS = """
COPY event_rows (stream_id, chain_id, seq, time_ms, code, details, received_ms) FROM STDIN (FORMAT BINARY)
"""
EVENT_TYPES = ("int8", "int8", "int8", "int8", "text", "text", "int8")
COPY_GAPS = """
COPY gap_rows (stream_id, chain_id, first, count, cause, from_ms, to_ms, received_ms) FROM STDIN (FORMAT BINARY)
"""
GAP_TYPES = ("int8", "int8", "int8", "int8", "text", "int8", "int8", "int8")
UNPARK = """
DELETE FROM parked USING unnest(%s::text[], %s::bytea[], %s::bigint[], %s::bytea[]) AS gone (gateway, chain, no, hash)
WHERE parked.gateway = gone.gateway AND parked.chain = gone.chain AND parked.no = gone.no AND parked.hash = gone.hash
"""
PARK = """
INSERT INTO parked (gateway, chain, no, hash, received_ms, payload) VALUES (%s, %s, %s, %s, %s, %s) RETURNING id
"""
# Ids tell the newest, so rows go in as they come; one worker at a time, so that none waits for another crosswise.
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('iomt.quarantine'))"
QUARANTINE = """
INSERT INTO quarantine (hash, gateway, cause, times, first_ms, last_ms, size_bytes, payload)
SELECT hash, gateway, cause, times, at_ms, at_ms, length(payload), payload FROM
    unnest(%s::bytea[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bytea[])
    AS fresh (hash, gateway, cause, times, at_ms, payload)
ON CONFLICT (hash) DO UPDATE SET times = quarantine.times + excluded.times, last_ms = excluded.last_ms
"""
FORGET_OLDEST = """
DELETE FROM quarantine WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(size_bytes) OVER newest AS total,
            row_number() OVER (PARTITION BY gateway ORDER BY id DESC) AS own
        FROM quarantine WINDOW newest AS (ORDER BY id DESC)) AS ranked
    WHERE place > %s OR total > %s OR own > %s)
"""
BOOT_TIMES = """
INSERT INTO boot_times (stream_id, chain_id, seq, gateway, boot, boot_ms, uncertainty_ms, time_ms, received_ms)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::bytea[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[])
"""
ANCHORS = """
INSERT INTO clock_anchors SELECT * FROM unnest(%s::text[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[])
ON CONFLICT DO NOTHING
"""
FORKS = """
INSERT INTO forks SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::bytea[], %s::bigint[])
ON CONFLICT DO NOTHING
"""
TOMBSTONES = "INSERT INTO erased_epochs SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])"
