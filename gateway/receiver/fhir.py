"""Stored readings as FHIR R4 resources by HL7's Personal Health Device guide 2.0. Sans-IO: rows in, plain dicts out.

A value keeps the device's precision: it is a `Decimal`, which `encode` writes digit by digit.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, Final
from urllib.parse import quote

import simplejson

from gateway.health import metrics
from gateway.health.metrics import METRICS, PRIVATE, Metric
from gateway.model import Extra, Quality, Reason, TimeSource

Resource = dict[str, Any]

MDC: Final = "urn:iso:std:iso:11073:10101"
LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
GATEWAYS: Final = "urn:iomt-gateway:gateway"
PROVENANCE: Final = "urn:iomt-gateway:provenance"
_OWN_METRICS: Final = "urn:iomt-gateway:metric"
_BLUETOOTH: Final = "http://hl7.org/fhir/sid/eui-48/bluetooth"
_GUIDE: Final = "http://hl7.org/fhir/uv/phd"
_GATEWAY_DEVICE: Final = "http://hl7.org/fhir/StructureDefinition/observation-gatewayDevice"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_STATUS: Final = "http://hl7.org/fhir/uv/pocd/CodeSystem/measurement-status"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_NAMES: Final = uuid.UUID("3b1c2f0a-93f5-5c9e-9d2b-5a8f6f1f7b11")

_PRESSURE_PANEL: Final = (150020, "85354-9", "blood pressure panel")
_PRESSURES: Final = frozenset({metrics.SYSTOLIC, metrics.DIASTOLIC, metrics.MEAN_ARTERIAL})
_VITAL_SIGNS: Final = frozenset(
    {"8867-4", "8310-5", "85354-9", "8480-6", "8462-4", "29463-7", "8302-2", "39156-5", "59408-5"}
)
_PULSE_OXIMETRY: Final = "2708-6"
_SPECIALS: Final = {"NaN": "not-a-number", "+INF": "positive-infinity", "-INF": "negative-infinity"}
_CORRECTED: Final = frozenset({TimeSource.DEVICE_CORRECTED, TimeSource.ANCHORED})
_NO_PATIENTS: Final = frozenset({metrics.BATTERY, metrics.GLUCOSE_CONTROL})


@dataclass(frozen=True, slots=True)
class Row:
    """One stored reading of an assigned stream."""

    gateway: str
    stream: bytes
    patient: str
    chain: bytes
    seq: int
    device: str
    metric: int
    mantissa: int | None
    exponent: int
    time_ms: int
    quality: int
    sequence: int | None
    session: str | None
    backfilled: int
    extras: str | None

    @property
    def told(self) -> Mapping[str, Any]:
        """Its extras, by key in decimal."""
        extras: dict[str, Any] = json.loads(self.extras) if self.extras else {}
        return extras

    @property
    def value(self) -> Decimal | None:
        """Exactly as the device said it."""
        return None if self.mantissa is None else Decimal(self.mantissa).scaleb(self.exponent)


@dataclass(frozen=True, slots=True)
class Export:
    """One observation with what it refers to; each is keyed so that a server creates it once."""

    observation: Resource
    others: tuple[Resource, ...] = field(default=())


def leaves(row: Row) -> bool:
    """Whether a reading may leave as a patient's observation.

    Void values never do, nor what is not the patient's; that there was no value does.
    """
    if row.quality == Quality.NOT_PATIENT or row.metric in _NO_PATIENTS:
        return False
    if row.quality == Quality.VOID:
        reasons = Reason(int(row.told.get(str(int(Extra.REASONS)), 0)))
        spoilt = Reason.IMPLAUSIBLE | Reason.SENSOR_FAULT | Reason.NOT_READY
        return row.mantissa is None and not reasons & spoilt
    return True


def exports(rows: Iterable[Row]) -> Iterator[Export]:
    """Readings, ordered by time within each stream, as observations: one each, pressures of one cuff together."""
    together = groupby(
        filter(leaves, rows),
        key=lambda row: (
            row.stream,
            row.time_ms,
            row.chain,
            row.device,
            row.seq if row.metric not in _PRESSURES else -1,
        ),
    )
    for _, group in together:
        yield _export(list(group))


def devices(row: Row) -> tuple[Resource, Resource]:
    """The wearable and the gateway."""
    address = row.device.replace(":", "-")
    wearable = {
        "resourceType": "Device",
        "id": _id("device", row.device),
        "meta": {"profile": [f"{_GUIDE}/StructureDefinition/PhdDevice"]},
        "identifier": [{"system": _BLUETOOTH, "value": address}],
        "type": {"coding": [{"system": MDC, "code": "65573"}], "text": "MDC_MOC_VMS_MDS_SIMP"},
    }
    gateway = {
        "resourceType": "Device",
        "id": _id("gateway", row.gateway),
        "meta": {"profile": [f"{_GUIDE}/StructureDefinition/PhgDevice"]},
        "identifier": [{"system": GATEWAYS, "value": row.gateway}],
        "type": {"coding": [{"system": MDC, "code": "531981"}], "text": "MDC_MOC_VMS_MDS_AHD"},
    }
    return wearable, gateway


def transaction(batch: Sequence[Export]) -> Resource:
    """A transaction Bundle in which a server creates what it does not have yet."""
    resources = {each["id"]: each for export in batch for each in (*export.others, export.observation)}
    address = {f"{each['resourceType']}/{number}": f"urn:uuid:{number}" for number, each in resources.items()}
    entries = [
        {
            "fullUrl": f"urn:uuid:{number}",
            "resource": _readdressed({key: value for key, value in each.items() if key != "id"}, address),
            "request": {"method": "POST", "url": each["resourceType"], "ifNoneExist": _search(each["identifier"][0])},
        }
        for number, each in resources.items()
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def encode(resource: Resource) -> str:
    """JSON on one line, decimals digit by digit."""
    text: str = simplejson.dumps(resource, use_decimal=True, ensure_ascii=False, separators=(",", ":"))
    return text


def _export(rows: list[Row]) -> Export:
    row = rows[0]
    wearable, gateway = devices(row)
    told = row.told
    observation: Resource = {
        "resourceType": "Observation",
        "id": "",
        "meta": {"profile": [f"{_GUIDE}/StructureDefinition/{_profile(rows)}"]},
        "extension": [{"url": _GATEWAY_DEVICE, "valueReference": {"reference": f"Device/{gateway['id']}"}}],
        "identifier": [{"value": _identity(rows)}],
        "status": "final",
        "category": [
            {"coding": [{"system": f"{_GUIDE}/CodeSystem/PhdObservationCategories", "code": "phd-observation"}]}
        ],
        **_measured(rows),
        "subject": {"reference": row.patient},
        "effectiveDateTime": _instant(row.time_ms),
        "device": {"reference": f"Device/{wearable['id']}"},
    }
    observation["id"] = _id("observation", observation["identifier"][0]["value"])
    if any(coding["code"] in _VITAL_SIGNS for coding in observation["code"]["coding"] if coding["system"] == LOINC):
        observation["category"].append({"coding": [{"system": _CATEGORY, "code": "vital-signs"}]})
    if tags := _tags(rows):
        observation["meta"]["tag"] = [{"system": PROVENANCE, "code": tag} for tag in tags]
    if any(each.quality == Quality.DOUBTFUL for each in rows):
        reasons = Reason(int(told.get(str(int(Extra.REASONS)), 0)))
        text = ", ".join(reason.name.lower().replace("_", " ") for reason in reasons if reason.name)
        observation["interpretation"] = [
            {"coding": [{"system": _STATUS, "code": "questionable"}], "text": text or "doubtful"}
        ]
    others: list[Resource] = [wearable, gateway]
    if coincident := _coincident(row, told, wearable, gateway):
        others.append(coincident)
        observation["derivedFrom"] = [{"reference": f"Observation/{coincident['id']}"}]
    return Export(observation, tuple(others))


def _profile(rows: list[Row]) -> str:
    return "PhdNumericObservation" if rows[0].metric not in _PRESSURES else "PhdCompoundNumericObservation"


def _measured(rows: list[Row]) -> Resource:
    if rows[0].metric not in _PRESSURES:
        return {"code": _code(rows[0].metric), **_value(rows[0])}
    number, loinc, name = _PRESSURE_PANEL
    panel = {
        "coding": [{"system": MDC, "code": str(number)}, {"system": LOINC, "code": loinc}],
        "text": name,
    }
    return {"code": panel, "component": [{"code": _code(row.metric), **_value(row)} for row in rows]}


def _code(number: int) -> Resource:
    metric = METRICS.get(number)
    system, code = (_OWN_METRICS, str(number - PRIVATE)) if number >= PRIVATE else (MDC, str(number))
    coding = [{"system": system, "code": code}]
    if metric is None:
        return {"coding": coding}
    if metric.loinc is not None:
        coding.append({"system": LOINC, "code": metric.loinc})
    if number == metrics.SPO2:
        coding.append({"system": LOINC, "code": _PULSE_OXIMETRY})
    return {"coding": coding, "text": metric.name}


def _value(row: Row) -> Resource:
    value = row.value
    if value is not None:
        metric: Metric | None = METRICS.get(row.metric)
        quantity: Resource = {"value": value}
        if metric is not None and not metric.unit.startswith("{"):
            quantity |= {"unit": metric.unit, "system": UCUM, "code": metric.unit}
        return {"valueQuantity": quantity}
    special = str(row.told.get(str(int(Extra.SPECIAL)), "no value"))
    code = _SPECIALS.get(special, "unknown")
    return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": code}], "text": special}}


def _tags(rows: list[Row]) -> list[str]:
    sources = {int(row.told.get(str(int(Extra.TIME_SOURCE)), 0)) for row in rows}
    tags = ["backfilled"] if any(row.backfilled for row in rows) else []
    if sources & _CORRECTED:
        tags.append("time-corrected")
    if TimeSource.BOOT in sources:
        tags.append("time-unknown")
    return tags


def _identity(rows: list[Row]) -> str:
    """What makes a measurement the same one again: device, patient, type, and the device's own time or number.

    A measurement that its device neither dates nor numbers was live, and is known by its place in its chain.
    """
    row = rows[0]
    told = row.told
    kind = str(_PRESSURE_PANEL[0] if row.metric in _PRESSURES else row.metric)
    if row.sequence is not None:
        when = f"{row.session or ''}.{row.sequence}.{row.mantissa}.{row.exponent}"
    elif device_time := told.get(str(int(Extra.DEVICE_TIME))):
        when = f"{device_time}.{'.'.join(f'{each.mantissa}.{each.exponent}' for each in rows)}"
    else:
        when = f"{row.chain.hex()}.{row.seq}"
    return "-".join((row.device.replace(":", ""), row.patient.replace("/", "."), kind, when))


def _coincident(row: Row, told: Mapping[str, Any], wearable: Resource, gateway: Resource) -> Resource | None:
    """The device's clock and the gateway's at one moment, for a time that was corrected by their difference."""
    device_time = told.get(str(int(Extra.DEVICE_TIME)))
    if told.get(str(int(Extra.TIME_SOURCE))) not in _CORRECTED or not isinstance(device_time, str):
        return None
    try:
        shown = datetime.fromisoformat(device_time).replace(tzinfo=UTC)
    except ValueError:
        return None
    name = f"{wearable['identifier'][0]['value']}-67975-{device_time}-{row.time_ms}"
    return {
        "resourceType": "Observation",
        "id": _id("coincident", name),
        "meta": {"profile": [f"{_GUIDE}/StructureDefinition/PhdCoincidentTimeStampObservation"]},
        "extension": [{"url": _GATEWAY_DEVICE, "valueReference": {"reference": f"Device/{gateway['id']}"}}],
        "identifier": [{"value": name}],
        "status": "final",
        "code": {"coding": [{"system": MDC, "code": "67975"}], "text": "MDC_ATTR_TIME_ABS: Absolute time"},
        "subject": {"reference": row.patient},
        "effectiveDateTime": _instant(row.time_ms),
        "valueDateTime": shown.isoformat(),
        "device": {"reference": f"Device/{gateway['id']}"},
    }


def _instant(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _id(kind: str, name: str) -> str:
    return str(uuid.uuid5(_NAMES, f"{kind}/{name}"))


def _search(identifier: Mapping[str, str]) -> str:
    """A FHIR search for one identifier (R4, 3.1.1.3.1.3 escaping, then RFC 3986)."""
    value = identifier["value"]
    for special in "\\|,$":
        value = value.replace(special, f"\\{special}")
    token = f"{identifier['system']}|{value}" if "system" in identifier else value
    return f"identifier={quote(token, safe='')}"


def _readdressed(value: Any, address: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {
            key: address.get(item, item) if key == "reference" else _readdressed(item, address)
            for key, item in value.items()
        }
    return [_readdressed(item, address) for item in value] if isinstance(value, list) else value
