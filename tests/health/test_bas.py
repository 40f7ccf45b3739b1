"""Battery."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.metrics import BATTERY


@pytest.mark.parametrize("level", [0, 55, 100])
def test_a_level(level: int) -> None:
    battery = health.decode(0x2A19, bytes([level]))
    assert battery.fields() == {"level_pct": level}
    (reading,) = battery.readings(device="d", time_ms=0)
    assert (reading.metric, reading.mantissa) == (BATTERY, level)


@pytest.mark.parametrize("octets", [b"", b"\x65", b"\xff", b"\x01\x00"])
def test_what_is_no_level_is_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        health.decode(0x2A19, octets)
