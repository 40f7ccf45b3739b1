-- Forgetting a stream: tombstones of its epochs, and the certificate that it was done.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'iomt_eraser') THEN
        CREATE ROLE iomt_eraser NOLOGIN;
    END IF;
END $$;

ALTER TABLE streams ADD erased_ms bigint;
CREATE INDEX erased_streams ON streams (gateway) WHERE erased_ms IS NOT NULL;

-- Nothing of these epochs is ever opened again.
CREATE TABLE erased_epochs (
    chain_id bigint NOT NULL REFERENCES chains,
    epoch bigint NOT NULL,
    stream_id bigint NOT NULL REFERENCES streams,
    PRIMARY KEY (chain_id, epoch)
);

CREATE TABLE erasure_certificates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream bytea NOT NULL,
    document text NOT NULL
);

GRANT SELECT, INSERT ON erased_epochs TO iomt_worker, iomt_eraser;
GRANT iomt_desk TO iomt_eraser;
GRANT SELECT ON gateways, epoch_secrets, epoch_parts, parked, quarantine, device_records, boot_times TO iomt_eraser;
GRANT DELETE ON epoch_parts, epoch_secrets, reading_rows, event_rows, gap_rows, record_runs, boot_times, device_records,
    parked, parked_needs, quarantine TO iomt_eraser;
GRANT UPDATE ON gateways TO iomt_eraser;
GRANT UPDATE (erased_ms) ON streams TO iomt_eraser;
GRANT SELECT, INSERT ON erasure_certificates TO iomt_eraser;
