"""Who made a wearable that has only advertised yet: makers of health devices among the SIG's company identifiers.

Bluetooth SIG, Assigned Numbers, 7.1. Whoever advertises may claim any: it helps a person to choose, and proves nothing.
"""

from collections.abc import Iterable
from typing import Final

MAKERS: Final = {
    0x0069: "A&D",
    0x006B: "Polar",
    0x0087: "Garmin",
    0x00D0: "Dexcom",
    0x0167: "Ascensia",
    0x016D: "LifeScan",
    0x0170: "Roche",
    0x01DD: "Philips",
    0x01F9: "Medtronic",
    0x0243: "Masimo",
    0x02D5: "Omron",
    0x03BB: "Abbott",
    0x03FF: "Withings",
    0x0611: "Beurer",
    0x063C: "Contec",
    0x0743: "Sanofi",
    0x0804: "Andon",
    0x089E: "i-SENS",
}


def maker(companies: Iterable[int]) -> str | None:
    """Of a device whose advertisement has data of these companies."""
    return next((MAKERS[each] for each in companies if each in MAKERS), None)
