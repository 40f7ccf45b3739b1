"""What to read, subscribe and make of each kind of wearable: identity, time and readings of every value.

A kind is named after its file in `gateway.health`. One that is simply listened to is found by its `COLLECTED` there.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway import health
from gateway.ble.profiles.base import RACP, Profile
from gateway.ble.profiles.cgm import CgmProfile
from gateway.ble.profiles.direct import Direct
from gateway.ble.profiles.gls import GlucoseMeter
from gateway.ble.profiles.hts import Thermometer
from gateway.ble.profiles.plx import PulseOximeter
from gateway.ble.profiles.times import DeviceTimes

__all__ = ["PROFILES", "RACP", "SPEAKS", "Profile"]

PROFILES: Final[dict[str, Callable[[str, DeviceTimes], Profile]]] = {
    name: partial(Direct, characteristics=characteristics) for name, characteristics in health.COLLECTED.items()
} | {"cgm": CgmProfile, "gls": GlucoseMeter, "hts": Thermometer, "plx": PulseOximeter}
"""By name: makes a fresh one for one connection."""
SPEAKS: Final = ("cgm", "plx")
"""Those that say something by themselves while linked."""
