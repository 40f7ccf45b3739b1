"""Weight scale."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.metrics import BMI, HEIGHT, WEIGHT
from gateway.health.sfloat import Number
from gateway.health.wss import Weight
from gateway.model import Extra, Reading, Reason


def read(octets: str) -> list[Reading]:
    return list(health.decode(0x2A9D, bytes.fromhex(octets)).readings(device="d", time_ms=0))


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        ("00 58 39", {"unit": "kg", "weight": Number(73400, -3)}),
        ("01 34 3f", {"unit": "lb", "weight": Number(16180, -2)}),
        ("00 ff ff", {"unit": "kg", "weight": None, "weight_special": "NaN"}),
        (
            # a retail scale, as logged by openScale
            "0e f2 2f e5 07 07 17 15 21 1f 02 d4 00 a4 06",
            {
                "unit": "kg",
                "weight": Number(61370, -3),
                "timestamp": "2021-07-23T21:33:31",
                "user_id": 2,
                "bmi": Number(212, -1),
                "height": Number(1700, -3),
            },
        ),
        ("f0 58 39", {"unit": "kg", "weight": Number(73400, -3), "rfu_flags": 0xF0}),
    ],
)
def test_it_says_what_was_sent_and_encodes_to_it(octets: str, fields: dict[str, object]) -> None:
    weight = health.decode(0x2A9D, bytes.fromhex(octets))
    assert weight.fields() == fields
    assert weight.encode() == bytes.fromhex(octets)


@pytest.mark.parametrize("octets", ["", "00 58", "00 58 39 00", "08 58 39 d4 00", "10 58 39 00"])
def test_a_length_that_the_flags_do_not_explain_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        read(octets)


def test_readings_are_in_kilograms_and_centimetres() -> None:
    readings = read("08 58 39 d4 00 a4 06")
    assert [(each.metric, each.mantissa, each.exponent) for each in readings] == [
        (WEIGHT, 73400, -3),
        (BMI, 212, -1),
        (HEIGHT, 1700, -1),
    ]
    assert [dict(each.extras).get(Extra.UNIT) for each in readings] == [None, None, "m"]


def test_pounds_and_inches_are_converted_so_finely_that_they_can_be_told_back() -> None:
    for raw in range(10_000, 12_000):
        weight, _, height = read("09" + raw.to_bytes(2, "little").hex() + "d4 00 a4 02")
        assert weight.mantissa is not None
        assert round(weight.mantissa * 10**weight.exponent / 0.45359237, 2) == raw / 100
        assert dict(weight.extras)[Extra.UNIT] == "[lb_av]"
        assert (height.mantissa, height.exponent) == (1717, -1)
        assert dict(height.extras)[Extra.UNIT] == "[in_i]"


def test_a_failed_weighing_has_no_value() -> None:
    (reading,) = read("00 ff ff")
    assert (reading.mantissa, reading.reasons) == (None, Reason.NO_VALUE)


def test_a_weight_between_two_steps_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="count of"):
        Weight(weight=Number(73401, -3)).encode()


def test_features() -> None:
    assert health.decode(0x2A9E, b"\x07\x00\x00\x00").fields() == {"features": 7}


@pytest.mark.parametrize(("user", "told"), [("02", 2), ("ff", None)])
def test_every_reading_tells_whose_it_is_unless_that_is_unknown(user: str, told: int | None) -> None:
    assert {dict(each.extras).get(Extra.USER) for each in read("0c 58 39" + user + "d4 00 a4 06")} == {told}
