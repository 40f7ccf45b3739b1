"""Takes readings out of a store: NDJSON, a FHIR server, CSV."""

import csv
import http.client
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TextIO
from urllib.parse import urlsplit

from gateway.errors import ExportError
from gateway.health.metrics import METRICS
from gateway.receiver.fhir import Export, Row, encode, exports, transaction

_BATCH: Final = 100
_TRIES: Final = 5
_BACKOFF_S: Final = 0.5
_TIMEOUT_S: Final = 60.0
_RETRY: Final = frozenset({408, 429, 500, 502, 503, 504})
_FORMULA: Final = frozenset("=+-@\t\r")
_CSV: Final = (
    *("patient", "gateway", "stream", "device", "metric", "mdc", "value", "unit", "time_ms", "quality"),
    *("backfilled", "sequence", "session", "extras"),
)


@dataclass(slots=True)
class Written:
    """How much left."""

    observations: int = 0
    resources: int = 0


def to_ndjson(rows: Iterable[Row], out: TextIO) -> Written:
    """One resource a line, each once, what is referred to before what refers to it."""
    written = Written()
    known: set[str] = set()
    for each in exports(rows):
        for resource in (*each.others, each.observation):
            if resource["id"] not in known:
                if resource["resourceType"] == "Device":
                    known.add(resource["id"])
                out.write(encode(resource) + "\n")
                written.resources += 1
        written.observations += 1
    return written


def to_server(
    rows: Iterable[Row], base: str, *, tls: ssl.SSLContext, progress: Callable[[int], None], pause: float = _BACKOFF_S
) -> Written:
    """Transaction Bundles of conditional creates to the FHIR server at `base` (http or https); safe to repeat.

    Raises `ExportError` that says how far it came: what was acknowledged is there, and is not created again.
    """
    written = Written()
    with closing(_Server(base, tls, pause)) as server:
        for batch in _batches(exports(rows)):
            bundle = transaction(batch)
            server.post(encode(bundle).encode(), written.observations)
            written.observations += len(batch)
            written.resources += len(bundle["entry"])
            progress(written.observations)
    return written


def to_csv(rows: Iterable[Row], out: TextIO) -> Written:
    """A line a reading, everything that is stored of it and assigned, void values too: `quality` says so.

    A text that starts as a formula does gets an apostrophe before it.
    """
    written = Written()
    writer = csv.writer(out)  # with the line ends of RFC 4180, else a carriage return in a text would not be quoted
    writer.writerow(_CSV)
    for row in rows:
        metric = METRICS.get(row.metric)
        value = "" if row.value is None else f"{row.value:f}"
        named = (metric.name, row.metric, value, metric.unit) if metric else ("", row.metric, value, "")
        times = (row.time_ms, row.quality, row.backfilled, row.sequence, _text(row.session), row.extras)
        writer.writerow((_text(row.patient), _text(row.gateway), row.stream.hex(), _text(row.device), *named, *times))
        written.observations += 1
    return written


def _text(cell: str | None) -> str | None:
    """A text that others chose, so that no spreadsheet takes it for a formula."""
    return f"'{cell}" if cell and cell[0] in _FORMULA else cell


class _Server:
    """A FHIR server; its connection is kept."""

    def __init__(self, base: str, tls: ssl.SSLContext, pause: float) -> None:
        parts = urlsplit(base)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ExportError(f"{base}: is no address of a FHIR server")
        self._base = base
        self._path = parts.path or "/"
        self._pause = pause
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S, context=tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def post(self, body: bytes, sent: int) -> None:
        """Send one Bundle until it is taken. Raises `ExportError`."""
        headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
        said = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self._pause * 2**attempt)
            try:
                self._connection.request("POST", self._path, body, headers)
                answer = self._connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                said = str(error) or type(error).__name__
                continue
            if answer.status < http.HTTPStatus.MULTIPLE_CHOICES:
                return
            # Its words may quote what was sent, so they are not repeated.
            said = f"HTTP {answer.status}, {len(text)} bytes of explanation"
            if answer.status not in _RETRY:
                break
        raise ExportError(f"{self._base}: {said}; {sent} observations are there; run it again to go on")


def _batches(source: Iterator[Export]) -> Iterator[list[Export]]:
    batch: list[Export] = []
    for each in source:
        batch.append(each)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
