"""Thermometer."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.metrics import TEMPERATURE, TEMPERATURE_ORAL
from gateway.health.sfloat import Number
from gateway.model import Extra, Reading, Reason


def read(octets: str, characteristic: int = 0x2A1C) -> list[Reading]:
    return list(health.decode(characteristic, bytes.fromhex(octets)).readings(device="d", time_ms=0))


@pytest.mark.parametrize("characteristic", [0x2A1C, 0x2A1E])
@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        ("00 4c 0e 00 fe", {"unit": "C", "temperature": Number(3660, -2)}),
        ("01 da 03 00 ff", {"unit": "F", "temperature": Number(986, -1)}),
        ("04 6e 01 00 ff 06", {"unit": "C", "temperature": Number(366, -1), "type": 6}),
        (
            "06 6e 01 00 ff e8 07 02 0d 0c 0b 0a 02",
            {"unit": "C", "temperature": Number(366, -1), "timestamp": "2024-02-13T12:11:10", "type": 2},
        ),
        ("00 ff ff 7f 00", {"unit": "C", "temperature": None, "temperature_special": "NaN"}),
        ("f8 6e 01 00 ff", {"unit": "C", "temperature": Number(366, -1), "rfu_flags": 0xF8}),
    ],
)
def test_it_says_what_was_sent_and_encodes_to_it(characteristic: int, octets: str, fields: dict[str, object]) -> None:
    temperature = health.decode(characteristic, bytes.fromhex(octets))
    assert temperature.fields() == fields
    assert temperature.encode() == bytes.fromhex(octets)


@pytest.mark.parametrize("octets", ["", "00 4c 0e 00", "00 4c 0e 00 fe 00", "04 6e 01 00 ff", "08 6e 01 00 ff 00"])
def test_a_length_that_the_flags_do_not_explain_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        read(octets)


def test_a_reading_keeps_the_digits_and_the_site() -> None:
    (reading,) = read("06 4c 0e 00 fe e8 07 02 0d 0c 0b 0a 06")
    assert (reading.metric, reading.mantissa, reading.exponent) == (TEMPERATURE_ORAL, 3660, -2)
    assert reading.extras == ((Extra.DEVICE_TIME, "2024-02-13T12:11:10"),)


def test_fahrenheit_becomes_celsius_so_finely_that_it_can_be_told_back() -> None:
    for tenths in range(900, 1100):
        (reading,) = read("01" + tenths.to_bytes(3, "little").hex() + "ff")
        assert reading.mantissa is not None
        assert reading.exponent == -2
        assert round(reading.mantissa / 100 * 9 / 5 + 32, 1) == tenths / 10
        assert dict(reading.extras)[Extra.UNIT] == "[degF]"


def test_an_unknown_site_is_noted() -> None:
    (reading,) = read("04 6e 01 00 ff 63")
    assert (reading.metric, reading.reasons) == (TEMPERATURE, Reason.ANOMALY)


def test_what_is_still_settling_is_no_reading() -> None:
    assert read("00 4c 0e 00 fe", characteristic=0x2A1E) == []


def test_a_fixed_site() -> None:
    assert health.decode(0x2A1D, b"\x06").fields() == {"value": 6}
