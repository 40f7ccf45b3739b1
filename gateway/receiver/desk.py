"""What people do with a store, on either database: name the patient of a stream, read what may leave."""

import getpass
from collections.abc import Iterator
from typing import Final

from gateway.errors import ConfigError
from gateway.receiver import queries
from gateway.receiver.fhir import Row
from gateway.receiver.store import Store, StoredStream

_PAGE: Final = 5_000
_ID_BYTES: Final = 16
_TIME: Final = 7
"""The column of `EXPORT_PAGE` that is the time."""


def assign(store: Store, stream: str, patient: str, *, now_ms: int) -> None:
    """Say whose `stream` (hex) is; `patient` is a FHIR reference. Who said so is logged, the patient is not.

    Raises `ConfigError` for a stream that is not here or was forgotten, `StoreError`.
    """
    found = find(store, stream)
    if (found.stream,) in store.rows(queries.ERASED_STREAMS, found.gateway):
        raise ConfigError(f"{stream}: was forgotten; a patient gets a fresh stream")
    store.change(
        (queries.ASSIGN, (found.number, patient, now_ms)),
        (queries.LOG, (now_ms, getpass.getuser(), "assign", found.stream)),
    )


def unassign(store: Store, stream: str, *, now_ms: int) -> None:
    """Forget whose `stream` (hex) is. Raises `ConfigError` for a stream that is not here, `StoreError`."""
    found = find(store, stream)
    store.change(
        (queries.UNASSIGN, (found.number,)),
        (queries.LOG, (now_ms, getpass.getuser(), "unassign", found.stream)),
    )


def assigned(store: Store) -> list[tuple[str, str, str | None]]:
    """(gateway, stream in hex, patient if there is one) of every stream. Raises `StoreError`."""
    return [(gateway, stream.hex(), patient) for gateway, stream, patient in store.rows(queries.STREAMS)]


def readings(store: Store, *, since_ms: int) -> Iterator[Row]:
    """Readings of assigned streams that arrived since then, by stream and time; read page by page.

    Raises `StoreError`.
    """
    for stream_id, gateway, stream, patient in store.rows(queries.ASSIGNED):
        place = (-1, -1, -1)
        while page := store.rows(queries.EXPORT_PAGE, stream_id, *place, since_ms, _PAGE):
            for row in page:
                yield Row(gateway, stream, patient, *row[1:])
            chain_id, _, seq, *_ = page[-1]
            place = (page[-1][_TIME], chain_id, seq)


def find(store: Store, stream: str) -> StoredStream:
    """A stream by its id in hex. Raises `ConfigError` for one that is not here, `StoreError`."""
    try:
        identity = bytes.fromhex(stream)
    except ValueError:
        identity = b""
    if len(identity) != _ID_BYTES:
        raise ConfigError(f"{stream}: is no stream id; those have 32 hexadecimal digits: `iomt-receiver streams list`")
    found = store.rows(queries.STREAM, identity)
    if len(found) != 1:
        count = "is not here" if not found else "is a stream of several gateways"
        raise ConfigError(f"{stream}: {count}: `iomt-receiver streams list`")
    [(number, gateway)] = found
    return StoredStream(number, gateway, identity)
