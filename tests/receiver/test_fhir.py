"""Readings as FHIR: every digit kept, nothing void, and accepted by somebody else's models."""

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.device import Device
from fhir.resources.R4B.observation import Observation
from hypothesis import given
from hypothesis import strategies as st

from gateway.health import metrics
from gateway.health.metrics import METRICS
from gateway.model import Extra, Quality, Reason, TimeSource
from gateway.receiver.fhir import Row, encode, exports, leaves, transaction

NOW_MS = 1_790_000_000_000
GLUCOSE = Row(
    *(
        "gw-1",
        b"\x0a" * 16,
        "Patient/4711",
        b"\x0c" * 16,
        7,
        "C0:00:00:00:00:01",
        metrics.GLUCOSE,
        1040,
        -1,
        NOW_MS,
        Quality.GOOD,
    ),
    *(None, None, 0, None),
)


def extras(**told: int | str) -> str:
    return json.dumps({str(int(Extra[name.upper()])): value for name, value in told.items()})


def observation(row: Row) -> dict[str, Any]:
    [export] = exports([row])
    return export.observation


def pressures() -> Iterator[Row]:
    for number, (metric, value) in enumerate(((metrics.SYSTOLIC, 120), (metrics.DIASTOLIC, 80))):
        yield replace(GLUCOSE, metric=metric, mantissa=value, exponent=0, seq=number)


def test_an_observation_says_what_whose_when_and_by_what() -> None:
    found = observation(GLUCOSE)
    assert found["code"]["coding"] == [
        {"system": "urn:iso:std:iso:11073:10101", "code": "160212"},
        {"system": "http://loinc.org", "code": "99504-3"},
    ]
    assert found["valueQuantity"] == {
        "value": Decimal("104.0"),
        "unit": "mg/dL",
        "system": "http://unitsofmeasure.org",
        "code": "mg/dL",
    }
    assert (found["subject"], found["status"]) == ({"reference": "Patient/4711"}, "final")
    assert found["effectiveDateTime"] == "2026-09-21T14:13:20.000+00:00"
    [export] = exports([GLUCOSE])
    wearable, gateway = export.others
    assert wearable["identifier"] == [
        {"system": "http://hl7.org/fhir/sid/eui-48/bluetooth", "value": "C0-00-00-00-00-01"}
    ]
    assert found["device"] == {"reference": f"Device/{wearable['id']}"}
    assert found["extension"][0]["valueReference"] == {"reference": f"Device/{gateway['id']}"}


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(-12, 6))
def test_a_value_leaves_digit_by_digit(mantissa: int, exponent: int) -> None:
    text = encode(observation(replace(GLUCOSE, mantissa=mantissa, exponent=exponent)))
    value = json.loads(text, parse_float=Decimal, parse_int=Decimal)["valueQuantity"]["value"]
    assert value.as_tuple() == Decimal(mantissa).scaleb(exponent).as_tuple()


def test_trailing_zeros_are_the_devices_precision() -> None:
    assert '"value":36.60' in encode(observation(replace(GLUCOSE, mantissa=3660, exponent=-2)))


@pytest.mark.parametrize(
    ("row", "may"),
    [
        (GLUCOSE, True),
        (replace(GLUCOSE, quality=Quality.DOUBTFUL), True),
        (replace(GLUCOSE, quality=Quality.VOID), False),
        (replace(GLUCOSE, quality=Quality.NOT_PATIENT), False),
        (replace(GLUCOSE, metric=metrics.BATTERY), False),
        (replace(GLUCOSE, metric=metrics.GLUCOSE_CONTROL), False),
        (replace(GLUCOSE, quality=Quality.VOID, mantissa=None, extras=extras(reasons=int(Reason.NO_VALUE))), True),
        (
            replace(
                GLUCOSE,
                quality=Quality.VOID,
                mantissa=None,
                extras=extras(reasons=int(Reason.NO_VALUE | Reason.SENSOR_FAULT)),
            ),
            False,
        ),
    ],
)
def test_void_values_and_what_is_no_patients_never_leave(row: Row, may: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert leaves(row) is may
    assert bool(list(exports([row]))) is may


@pytest.mark.parametrize(
    ("special", "code"), [("NaN", "not-a-number"), ("+INF", "positive-infinity"), ("result too high", "unknown")]
)
def test_that_there_was_no_value_is_said_with_its_reason(special: str, code: str) -> None:
    told = extras(special=special, reasons=int(Reason.NO_VALUE))
    found = observation(replace(GLUCOSE, quality=Quality.VOID, mantissa=None, extras=told))
    assert found["dataAbsentReason"]["coding"][0]["code"] == code
    assert found["dataAbsentReason"]["text"] == special
    assert "valueQuantity" not in found


def test_pressures_of_one_cuff_are_one_panel() -> None:
    [export] = exports(pressures())
    found = export.observation
    assert [coding["code"] for coding in found["code"]["coding"]] == ["150020", "85354-9"]
    assert [part["valueQuantity"]["value"] for part in found["component"]] == [Decimal(120), Decimal(80)]
    assert found["category"][1]["coding"][0]["code"] == "vital-signs"
    assert len(list(exports([*pressures(), replace(GLUCOSE, seq=9)]))) == 2


def test_backfilled_corrected_and_doubtful_are_marked() -> None:
    told = extras(time_source=int(TimeSource.DEVICE_CORRECTED), device_time="2026-09-21T16:10:00", reasons=32)
    row = replace(GLUCOSE, quality=Quality.DOUBTFUL, backfilled=1, extras=told)
    [export] = exports([row])
    assert [tag["code"] for tag in export.observation["meta"]["tag"]] == ["backfilled", "time-corrected"]
    assert export.observation["interpretation"][0]["text"] == "signal"
    coincident = export.others[-1]
    assert export.observation["derivedFrom"] == [{"reference": f"Observation/{coincident['id']}"}]
    assert coincident["code"]["coding"][0]["code"] == "67975"
    assert coincident["valueDateTime"] == "2026-09-21T16:10:00+00:00"
    assert coincident["effectiveDateTime"] == export.observation["effectiveDateTime"]


def test_a_stored_record_is_the_same_again_in_any_chain_and_at_any_corrected_time() -> None:
    stored = replace(GLUCOSE, sequence=17, session="s1")
    again = replace(stored, chain=b"\x0d" * 16, seq=99, time_ms=NOW_MS + 5)
    assert observation(stored)["identifier"] == observation(again)["identifier"]
    others = [
        replace(stored, sequence=18),
        replace(stored, session="s2"),
        replace(stored, patient="Patient/1"),
        replace(stored, device="C0:00:00:00:00:02"),
        replace(stored, metric=metrics.SPO2),
        GLUCOSE,
        replace(GLUCOSE, seq=8),
    ]
    identities = {observation(each)["identifier"][0]["value"] for each in (stored, *others)}
    assert len(identities) == len(others) + 1


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_is_accepted_by_independent_models(metric: int) -> None:
    rows = [replace(GLUCOSE, metric=metric)]
    for export in exports(rows):
        text = encode(export.observation)
        Observation.model_validate_json(text)
        for each in export.others:
            {"Device": Device, "Observation": Observation}[each["resourceType"]].model_validate_json(encode(each))
        codings = export.observation["code"]["coding"]
        assert all(coding["code"].isascii() for coding in codings)
        Bundle.model_validate_json(encode(transaction([export])))
