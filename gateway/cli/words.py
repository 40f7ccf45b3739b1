"""The words for what the daemon tells in codes."""

import datetime as dt
import time
from typing import Final

from gateway.ble.inventory import Device
from gateway.cli.terminal import plain
from gateway.clock.keeper import BOOT_ENDS_MS
from gateway.control.api import ReadingSeen

KINDS: Final = {
    "bcs": "body composition",
    "bls": "blood pressure",
    "cgm": "glucose sensor",
    "gls": "glucose meter",
    "hrs": "heart rate",
    "hts": "thermometer",
    "plx": "oximeter",
    "wss": "scale",
}
"""By profile."""

STATES: Final = {
    "link-up": "linked",
    "link-down": "not linked",
    "unassigned": "not assigned",
    "unpaired": "not paired",
    "bond-lost": "bond lost",
    "quarantined": "quarantined",
}
"""By `ble.healing.LinkState`."""

HAPPENED: Final = {
    "start": "the gateway has started",
    "link-up": "linked",
    "link-down": "the link ended",
    "link-silent": "linked and silent; the link is made anew",
    "paired": "paired",
    "pairing-opened": "a person pairs it",
    "pairing-failed": "the pairing came to nothing",
    "unpaired": "unpaired",
    "removed": "removed",
    "pairing-refused": "SECURITY: it asked to pair, and nobody had opened a window for it",
    "bond-lost": "SECURITY: it has lost its pairing",
    "quarantined": "SECURITY: quarantined",
    "security": "SECURITY",
    "released": "out of quarantine",
    "assigned": "assigned to a new stream",
    "unassigned": "assigned to nobody",
    "withheld": "readings of somebody else withheld",
    "adapter-up": "the Bluetooth adapter is in use",
    "adapter-down": "the Bluetooth adapter cannot be used",
    "adapter-reset": "nothing was heard for too long: the adapter is reset",
    "adapter-reset-unit": "nothing was heard for too long: the adapter is reset by the root unit",
}
"""By the code of an event."""

_STRONG_DBM, _FAIR_DBM = -65, -80
_MG_DL_OF_MMOL_L = 18.016
"""Glucose: 180.16 g/mol."""
_KG_OF_LB = 0.45359237
_MMHG_OF_KPA = 7.50062
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def kind(profile: str) -> str:
    """What sort of wearable it is."""
    return KINDS.get(profile, profile)


def make_and_model(device: Device) -> str:
    """As it says itself; empty if it does not."""
    return plain(f"{device.identity.make} {device.identity.model}".strip())


def called(device: Device) -> str:
    """What people call it, else what it is."""
    return plain(device.name) or make_and_model(device) or kind(device.profile)


def signal(rssi_dbm: int | None) -> str:
    """How well it is heard."""
    if rssi_dbm is None:
        return "-"
    strength = "strong" if rssi_dbm >= _STRONG_DBM else "fair" if rssi_dbm >= _FAIR_DBM else "weak"
    return f"{strength} {rssi_dbm} dBm"


def lasting(seconds: float) -> str:
    """A time span, roughly."""
    for unit, size in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def age_s(gateway_ms: int | None) -> float | None:
    """How long ago that was; None: never, or nobody knows."""
    if gateway_ms is None or gateway_ms < BOOT_ENDS_MS:
        return None
    return max(0.0, time.time() - gateway_ms / 1000)


def ago(gateway_ms: int | None) -> str:
    """When that was, roughly."""
    age = age_s(gateway_ms)
    return "-" if age is None else f"{lasting(age)} ago"


def count(number: int, what: str) -> str:
    """So many of it."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_UNITS: Final = {"mm[Hg]": "mmHg", "Cel": "°C", "[degF]": "°F", "kg/m2": "kg/m²"}
_NOT_COMPARED: Final = ("battery",)


def comparable(reading: ReadingSeen) -> bool:
    """Whether a wearable's display shows such a value."""
    return reading.metric not in _NOT_COMPARED and not reading.unit.startswith("{")


def measured(reading: ReadingSeen) -> str:
    """A reading as displays show it, in both units where displays differ."""
    at = dt.datetime.fromtimestamp(reading.at_ms / 1000).astimezone()
    time_of_day = f"{at:%H:%M:%S}" if reading.at_ms >= BOOT_ENDS_MS else "time not known"
    value = "no value" if reading.value is None else f"{reading.value} {_UNITS.get(reading.unit, reading.unit)}"
    doubts = f"  ({', '.join(each.replace('_', ' ') for each in reading.reasons)})" if reading.reasons else ""
    return f"{reading.metric}  {value}{_otherwise(reading)}  {time_of_day}{doubts}"


def _otherwise(reading: ReadingSeen) -> str:
    """The same in the unit that other displays show."""
    if reading.value is None:
        return ""
    value = float(reading.value)
    match reading.unit:
        case "mg/dL" if "glucose" in reading.metric:
            return f" ({value / _MG_DL_OF_MMOL_L:.1f} mmol/L)"
        case "Cel":
            return f" ({value * 9 / 5 + 32:.1f} °F)"
        case "kg":
            return f" ({value / _KG_OF_LB:.1f} lb)"
        case "mm[Hg]":
            return f" ({value / _MMHG_OF_KPA:.1f} kPa)"
    return ""
