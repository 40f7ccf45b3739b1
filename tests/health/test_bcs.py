"""Body composition."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health import metrics
from gateway.health.sfloat import Number
from gateway.model import Extra, Reading, Reason

EVERYTHING = (  # all but imperial units
    "fe 1f fa 00 e8 07 02 0d 0c 0b 0a 01 40 1f a4 01 58 1b 10 27 f8 2a 20 1c 88 13 58 39 a4 06"
)


def read(octets: str) -> list[Reading]:
    return list(health.decode(0x2A9C, bytes.fromhex(octets)).readings(device="d", time_ms=0))


def test_every_field_in_wire_order() -> None:
    body = health.decode(0x2A9C, bytes.fromhex(EVERYTHING))
    assert body.fields() == {
        "unit": "kg",
        "body_fat_pct": Number(250, -1),
        "timestamp": "2024-02-13T12:11:10",
        "user_id": 1,
        "basal_metabolism_kj": 8000,
        "muscle_pct": Number(420, -1),
        "muscle_mass": Number(35000, -3),
        "fat_free_mass": Number(50000, -3),
        "soft_lean_mass": Number(55000, -3),
        "body_water_mass": Number(36000, -3),
        "impedance_ohm": Number(5000, -1),
        "weight": Number(73400, -3),
        "height": Number(1700, -3),
        "multiple_packet": True,
    }
    assert body.encode() == bytes.fromhex(EVERYTHING)


def test_every_field_is_a_reading() -> None:
    assert [(each.metric, each.mantissa, each.exponent) for each in read(EVERYTHING)] == [
        (metrics.BODY_FAT, 250, -1),
        (metrics.MUSCLE_PERCENTAGE, 420, -1),
        (metrics.BASAL_METABOLISM, 8000, 0),
        (metrics.IMPEDANCE, 5000, -1),
        (metrics.MUSCLE_MASS, 35000, -3),
        (metrics.FAT_FREE_MASS, 50000, -3),
        (metrics.SOFT_LEAN_MASS, 55000, -3),
        (metrics.BODY_WATER, 36000, -3),
        (metrics.WEIGHT, 73400, -3),
        (metrics.HEIGHT, 1700, -1),
    ]


def test_pounds_and_inches_are_converted() -> None:
    fat, weight, height = read("01 0c fa 00 34 3f a4 02")
    assert (fat.metric, dict(fat.extras)) == (metrics.BODY_FAT, {})
    assert (weight.mantissa, weight.exponent, dict(weight.extras)) == (73391, -3, {Extra.UNIT: "[lb_av]"})
    assert (height.mantissa, height.exponent, dict(height.extras)) == (1717, -1, {Extra.UNIT: "[in_i]"})


def test_a_failed_measurement_has_no_body_fat() -> None:
    (reading,) = read("00 00 ff ff")
    assert (reading.mantissa, reading.reasons) == (None, Reason.NO_VALUE)


def test_reserved_flags_are_kept_and_noted() -> None:
    assert health.decode(0x2A9C, bytes.fromhex("00 e0 fa 00")).fields()["rfu_flags"] == 0xE000
    assert read("00 e0 fa 00")[0].reasons == Reason.ANOMALY


@pytest.mark.parametrize(
    "octets", ["", "00", "00 00", "00 00 fa", "00 00 fa 00 00", "10 00 fa 00", "00 20 fa 00 00 00"]
)
def test_a_length_that_the_flags_do_not_explain_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        read(octets)


def test_features() -> None:
    assert health.decode(0x2A9B, b"\x01\x00\x00\x80").fields() == {"features": 0x80000001}


def test_every_reading_tells_whose_it_is() -> None:
    assert {dict(each.extras)[Extra.USER] for each in read(EVERYTHING)} == {1}
