-- Whose a stream is, and who said so. The log names streams and people of the staff, never a patient.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'iomt_desk') THEN
        CREATE ROLE iomt_desk NOLOGIN;
    END IF;
END $$;

CREATE TABLE patients (
    stream_id bigint PRIMARY KEY REFERENCES streams,
    patient text NOT NULL,
    assigned_ms bigint NOT NULL
);

CREATE TABLE desk_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    stream bytea NOT NULL
);

-- Who assigns and exports is a reader that may name patients; nobody alters the log.
GRANT USAGE ON SCHEMA iomt TO iomt_desk;
GRANT iomt_reader TO iomt_desk;
GRANT SELECT ON streams, patients, desk_log, migrations TO iomt_desk;
GRANT INSERT, UPDATE, DELETE ON patients TO iomt_desk;
GRANT INSERT ON desk_log TO iomt_desk;
GRANT UPDATE (incarnation) ON store TO iomt_desk;
