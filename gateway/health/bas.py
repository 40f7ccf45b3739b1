"""Battery (service 0x180F; BAS 1.1): level 0x2A19."""

from dataclasses import dataclass
from typing import ClassVar, Final

from gateway.errors import DecodeError
from gateway.health.measurement import Measurement, Wire, on_wire
from gateway.health.metrics import BATTERY
from gateway.health.reading import reading
from gateway.health.sfloat import Number
from gateway.model import Reading

_FULL: Final = 100


def _decode_level(level: int) -> int:
    if level > _FULL:
        raise DecodeError(f"a battery has no level of {level} %")
    return level


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryLevel(Measurement):
    """0x2A19: how full the battery is."""

    FLAGS_OCTETS: ClassVar[int] = 0

    level_pct: int = on_wire(Wire("B", _decode_level))

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:
        """The level."""
        return (reading(BATTERY, Number(self.level_pct), device=device, time_ms=time_ms),)


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {0x2A19: BatteryLevel}
