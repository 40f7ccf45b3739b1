"""Queries that both databases understand; `?` stands for a value."""

READY = """
SELECT id, gateway, payload FROM parked WHERE id > ? AND NOT EXISTS (
    SELECT 1 FROM parked_needs WHERE parked_id = parked.id AND epoch NOT IN (
        SELECT epoch FROM epoch_secrets JOIN chains ON chains.id = chain_id
        WHERE chains.gateway = parked.gateway AND chains.chain = parked.chain
        UNION ALL SELECT epoch FROM erased_epochs JOIN chains ON chains.id = chain_id
        WHERE chains.gateway = parked.gateway AND chains.chain = parked.chain))
ORDER BY id LIMIT ?
"""
"""Parked bundles beyond a number whose epochs have all arrived, at most so many."""

NEWEST = """
SELECT gateway, max(received_ms) FROM chains
JOIN bundle_runs ON bundle_runs.chain_id = chains.id
JOIN bundles ON bundles.chain_id = chains.id AND bundles.no = bundle_runs.last
GROUP BY gateway
"""
"""When the newest bundle of each gateway arrived."""

FROM_BUNDLE = """
SELECT no, hash FROM bundles JOIN chains ON chains.id = chain_id
WHERE gateway = ? AND chain = ? AND no >= ? ORDER BY no LIMIT 2
"""
"""Number and hash of a bundle of a chain, and of the first after it."""

BUNDLES = """
SELECT gateway, sum(last - first + 1), sum(highest) FROM (
    SELECT gateway, first, last,
        CASE WHEN last = max(last) OVER (PARTITION BY chain_id) THEN last + 1 ELSE 0 END AS highest
    FROM bundle_runs JOIN chains ON chains.id = chain_id) AS runs
GROUP BY gateway ORDER BY gateway
"""
RECORDS = """
SELECT gateway, stream, sum(last - first + 1), sum(highest) FROM (
    SELECT stream_id, first, last,
        CASE WHEN last = max(last) OVER (PARTITION BY stream_id, chain_id) THEN last + 1 ELSE 0 END AS highest
    FROM record_runs) AS runs JOIN streams ON streams.id = stream_id
GROUP BY streams.id ORDER BY gateway, stream
"""
READINGS = """
SELECT gateway, stream, count(*), min(time_ms), max(time_ms)
FROM reading_rows JOIN streams ON streams.id = stream_id GROUP BY streams.id
"""
EXPLAINED = (
    "SELECT gateway, stream, sum(count) FROM gap_rows JOIN streams ON streams.id = stream_id GROUP BY streams.id"
)
FORKS = "SELECT gateway, count(*) FROM forks GROUP BY gateway"
PARKED = "SELECT count(*) FROM parked"
QUARANTINED = "SELECT cause, sum(times) FROM quarantine GROUP BY cause"

STREAMS = """
SELECT gateway, stream, patient FROM streams LEFT JOIN patients ON stream_id = streams.id ORDER BY gateway, stream
"""
STREAM = "SELECT id, gateway FROM streams WHERE stream = ?"
ASSIGNED = """
SELECT streams.id, gateway, stream, patient FROM streams JOIN patients ON stream_id = streams.id ORDER BY streams.id
"""
EXPORT_PAGE = """
SELECT chain_id, chain, seq, device, metric, mantissa, exponent, time_ms, quality, sequence, session, backfilled, extras
FROM reading_rows JOIN sources ON sources.id = source_id JOIN chains ON chains.id = chain_id
WHERE reading_rows.stream_id = ? AND (time_ms, chain_id, seq) > (?, ?, ?) AND received_ms >= ?
ORDER BY time_ms, chain_id, seq LIMIT ?
"""
"""Readings of a stream beyond (time, chain, number), that arrived since."""

ASSIGN = """
INSERT INTO patients (stream_id, patient, assigned_ms) VALUES (?, ?, ?)
ON CONFLICT (stream_id) DO UPDATE SET patient = excluded.patient, assigned_ms = excluded.assigned_ms
"""
UNASSIGN = "DELETE FROM patients WHERE stream_id = ?"
LOG = "INSERT INTO desk_log (at_ms, actor, action, stream) VALUES (?, ?, ?, ?)"

ERASED_STREAMS = "SELECT stream FROM streams WHERE gateway = ? AND erased_ms IS NOT NULL"
ERASE = (
    ("epochs", "INSERT INTO erased_epochs SELECT chain_id, epoch, stream_id FROM epoch_secrets WHERE stream_id = ?"),
    ("epoch parts", "DELETE FROM epoch_parts WHERE stream_id = ?"),
    ("epoch secrets", "DELETE FROM epoch_secrets WHERE stream_id = ?"),
    ("readings", "DELETE FROM reading_rows WHERE stream_id = ?"),
    ("sources", "DELETE FROM sources WHERE stream_id = ?"),
    ("events", "DELETE FROM event_rows WHERE stream_id = ?"),
    ("gaps", "DELETE FROM gap_rows WHERE stream_id = ?"),
    ("runs", "DELETE FROM record_runs WHERE stream_id = ?"),
    ("boot times", "DELETE FROM boot_times WHERE stream_id = ?"),
    ("patients", "DELETE FROM patients WHERE stream_id = ?"),
)
"""What forgets a stream, by what is counted."""
ERASE_WAITING = (
    ("parked bundles", "DELETE FROM parked WHERE gateway = ?"),
    ("quarantined bundles", "DELETE FROM quarantine WHERE gateway = ?"),
)
"""What may hold sealed parts of a stream: all that waits of its gateway. What is good in it is sent again."""
CLOSE = "UPDATE streams SET erased_ms = ? WHERE id = ?"
CERTIFY = "INSERT INTO erasure_certificates (stream, document) VALUES (?, ?)"
CERTIFICATES = "SELECT document FROM erasure_certificates WHERE stream = ? ORDER BY id"
