"""What leaves a store: whose stream was named, once each, to a file or to a server that keeps conditional creates."""

import csv
import io
import json
import ssl
from collections.abc import Iterator

import pytest

from gateway.errors import ConfigError, ExportError
from gateway.health import metrics
from gateway.model import Batch, Extra, Quality, Record
from gateway.receiver import desk
from gateway.receiver.export import to_csv, to_ndjson, to_server
from tests.receiver.conftest import NOW_MS, Box, Cloud
from tests.receiver.fhir_server import FhirServer, fhir_server

A, B = b"\x0a" * 16, b"\x0b" * 16
PATIENT = "Patient/4711"


@pytest.fixture
def server() -> Iterator[FhirServer]:
    with fhir_server() as server:
        yield server


def records(*values: int, quality: Quality = Quality.GOOD) -> tuple[Record, ...]:
    return tuple(
        Record(
            *("C0:00:00:00:00:01", metrics.GLUCOSE, value, -1, NOW_MS + number, quality),
            extras=((int(Extra.SEQUENCE), number), (int(Extra.SESSION), "s1")),
        )
        for number, value in enumerate(values)
    )


def sent(cloud: Cloud, server: FhirServer) -> int:
    rows = desk.readings(cloud.desk, since_ms=0)
    tls = ssl.create_default_context()
    return to_server(rows, server.url, tls=tls, progress=lambda _: None, pause=0.001).observations


def test_only_assigned_streams_leave(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, records(1000, 1010)), Batch(B, records(900))))
    assert list(desk.readings(cloud.desk, since_ms=0)) == []
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    assert {row.stream for row in desk.readings(cloud.desk, since_ms=0)} == {A}
    assert desk.assigned(cloud.desk) == [("gw-1", A.hex(), PATIENT), ("gw-1", B.hex(), None)]
    desk.unassign(cloud.desk, A.hex(), now_ms=NOW_MS)
    assert list(desk.readings(cloud.desk, since_ms=0)) == []


def test_who_assigned_is_logged_and_the_patient_is_erasable(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, records(1000))))
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    desk.unassign(cloud.desk, A.hex(), now_ms=NOW_MS + 1)
    log = cloud.rows("SELECT at_ms, action, stream FROM desk_log ORDER BY id")
    assert log == [(NOW_MS, "assign", A), (NOW_MS + 1, "unassign", A)]
    assert cloud.rows("SELECT count(*) FROM patients") == [(0,)]
    assert "4711" not in repr(cloud.rows("SELECT * FROM desk_log"))


@pytest.mark.parametrize("stream", ["", "zz", "0a", B.hex()])
def test_what_is_no_stream_here_is_refused(gw: Box, cloud: Cloud, stream: str) -> None:
    cloud.take(gw.message(Batch(A, records(1000))))
    with pytest.raises(ConfigError, match="streams list"):
        desk.assign(cloud.desk, stream, PATIENT, now_ms=NOW_MS)


def test_pages_follow_each_other_without_a_hole(gw: Box, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.receiver.desk._PAGE", 3)
    cloud.take(gw.message(Batch(A, gw.records(10))))
    cloud.intake.take([gw.message(Batch(A, gw.records(4)))], now_ms=NOW_MS + 100)
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    assert [row.mantissa for row in desk.readings(cloud.desk, since_ms=0)] == list(range(14))
    assert [row.mantissa for row in desk.readings(cloud.desk, since_ms=NOW_MS + 1)] == [10, 11, 12, 13]


def test_ndjson_holds_each_device_once_before_what_refers_to_it(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, records(1000, 1010)), Batch(A, records(1, quality=Quality.VOID))))
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    out = io.StringIO()
    assert to_ndjson(desk.readings(cloud.desk, since_ms=0), out).observations == 2
    kinds = [json.loads(line)["resourceType"] for line in out.getvalue().splitlines()]
    assert kinds == ["Device", "Device", "Observation", "Observation"]


def test_a_server_gets_each_observation_once_however_often_it_is_sent(
    gw: Box, cloud: Cloud, server: FhirServer
) -> None:
    cloud.take(gw.message(Batch(A, records(*range(1000, 1250)))))
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    server.answers = [503, 429]
    assert sent(cloud, server) == 250
    assert sent(cloud, server) == 250
    assert (len(server.of("Observation")), len(server.of("Device"))) == (250, 2)
    assert server.posts == 8
    assert {each["device"]["reference"] for each in server.of("Observation")} <= set(server.resources)


def test_a_server_that_refuses_is_told_and_the_rest_can_follow(gw: Box, cloud: Cloud, server: FhirServer) -> None:
    cloud.take(gw.message(Batch(A, records(*range(1000, 1150)))))
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    server.answers = [200, 422]
    with pytest.raises(ExportError, match=r"HTTP 422, .*; 100 observations are there"):
        sent(cloud, server)
    assert sent(cloud, server) == 150


def test_a_server_that_is_away_is_told(gw: Box, cloud: Cloud) -> None:
    with fhir_server() as server:
        pass
    cloud.take(gw.message(Batch(A, records(1000))))
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    with pytest.raises(ExportError, match="run it again"):
        sent(cloud, server)


def test_csv_tells_everything_and_exactly(gw: Box, cloud: Cloud) -> None:
    cloud.take(gw.message(Batch(A, records(1000)), Batch(A, records(3, quality=Quality.VOID))))
    desk.assign(cloud.desk, A.hex(), PATIENT, now_ms=NOW_MS)
    out = io.StringIO()
    to_csv(desk.readings(cloud.desk, since_ms=0), out)
    [first, second] = csv.DictReader(io.StringIO(out.getvalue()))
    assert (first["patient"], first["value"], first["unit"], first["quality"]) == (PATIENT, "100.0", "mg/dL", "0")
    assert (second["value"], second["quality"]) == ("0.3", "2")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_of_a_wearable_is_a_formula_in_a_table(gw: Box, cloud: Cloud, text: str) -> None:
    told = ((int(Extra.SEQUENCE), 1), (int(Extra.SESSION), text))
    cloud.take(gw.message(Batch(A, (Record(text, metrics.GLUCOSE, -5, -1, NOW_MS, extras=told),))))
    desk.assign(cloud.desk, A.hex(), "Patient/4711", now_ms=NOW_MS)
    out = io.StringIO(newline="")
    to_csv(desk.readings(cloud.desk, since_ms=0), out)
    [row] = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert (row["device"], row["session"]) == (f"'{text}", f"'{text}")
    assert (row["value"], row["patient"]) == ("-0.5", "Patient/4711")
