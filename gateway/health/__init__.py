"""Sans-IO: one file per GATT health profile, decode and encode.

A profile is a module here with `CHARACTERISTICS`: 16-bit UUID -> kind of measurement. It is found by iteration over the
package and imports no other profile; what profiles share stands beside them.
"""

import importlib
import pkgutil
from typing import Final

from gateway.errors import DecodeError
from gateway.health.measurement import VALUE_MAX_OCTETS, Fields, Measurement
from gateway.model import Reading

_PROFILES = {
    module.name: importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
}

CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    uuid: kind for profile in _PROFILES.values() for uuid, kind in getattr(profile, "CHARACTERISTICS", {}).items()
}
"""What each characteristic's values are, by 16-bit UUID."""

SERVICES: Final[dict[int, str]] = {
    profile.SERVICE: name for name, profile in _PROFILES.items() if hasattr(profile, "SERVICE")
}
"""Profile by the service that its devices advertise, 16-bit UUID."""

COLLECTED: Final[dict[str, tuple[int, ...]]] = {
    name: profile.COLLECTED for name, profile in _PROFILES.items() if hasattr(profile, "COLLECTED")
}
"""What to subscribe to, by profile: those of which nothing must be known or asked to understand what they say."""


def decode(characteristic: int, value: bytes, *, e2e_crc: bool | None = None) -> Measurement:
    """What `value` of the 16-bit UUID `characteristic` says.

    `e2e_crc`: whether the CGM feature promises a CRC; None infers it from the length. Raises `DecodeError` that names
    the characteristic, also for one that is not known.
    """
    kind = CHARACTERISTICS.get(characteristic)
    if kind is None:
        raise DecodeError(f"{characteristic:04X}: is not a characteristic this gateway knows")
    if len(value) > VALUE_MAX_OCTETS:
        raise DecodeError(f"{characteristic:04X}: {len(value)} octets are more than any attribute has")
    try:
        return kind.decode(value, e2e_crc=e2e_crc)
    except DecodeError as error:
        raise type(error)(f"{characteristic:04X}: {error}") from None


def encode(measurement: Measurement, *, e2e_crc: bool = False) -> bytes:
    """The octets of `measurement`, with a CRC where its characteristic may have one and `e2e_crc` asks for it."""
    return measurement.encode(e2e_crc=e2e_crc)


def fields(measurement: Measurement) -> Fields:
    """Everything `measurement` says, by the names of `iomt-gateway decode`."""
    return measurement.fields()


def readings(measurement: Measurement, *, device: str, time_ms: int) -> tuple[Reading, ...]:
    """The values of metrics in `measurement`, in their canonical units, as taken by `device` at `time_ms`."""
    return measurement.readings(device=device, time_ms=time_ms)
