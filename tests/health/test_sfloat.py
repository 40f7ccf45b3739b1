"""SFLOAT and FLOAT: the numbers of IEEE 11073-20601, to the last digit."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.health.sfloat import (
    Number,
    Special,
    decode_float,
    decode_sfloat,
    encode_float,
    encode_sfloat,
)

SPECIALS = list(Special)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (0x0064, "100"),
        (0xB068, "0.00104"),
        (0xF16D, "36.5"),
        (0xE000, "0.00"),
        (0x2005, "500"),
        (0x0FFF, "-1"),
        (0xFFFF, "-0.1"),
        (0x07FD, "2045"),
        (0x0803, "-2045"),
        (0x7001, "10000000"),
        (0x8001, "0.00000001"),
    ],
)
def test_an_sfloat_keeps_the_digits_that_were_sent(raw: int, text: str) -> None:
    assert str(decode_sfloat(raw)) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (0xFE000E4C, "36.60"),
        (0xFF00016E, "36.6"),
        (0x00000172, "370"),
        (0xFEFFFF9C, "-1.00"),
        (0x02000003, "300"),
        (0x007FFFFD, "8388605"),
    ],
)
def test_a_float_keeps_the_digits_that_were_sent(raw: int, text: str) -> None:
    assert str(decode_float(raw)) == text


@pytest.mark.parametrize(
    ("sfloat", "float32", "special"),
    [
        (0x07FF, 0x007FFFFF, "NaN"),
        (0x0800, 0x00800000, "NRes"),
        (0x07FE, 0x007FFFFE, "+INF"),
        (0x0802, 0x00800002, "-INF"),
        (0x0801, 0x00800001, "RFU"),
    ],
)
def test_special_values_have_a_reason_and_no_number(sfloat: int, float32: int, special: str) -> None:
    for number in (decode_sfloat(sfloat), decode_float(float32)):
        assert number == Number(None, 0, Special(special))
        assert str(number) == special
        assert not number.anomalous


def test_a_special_mantissa_with_an_exponent_is_special_and_an_anomaly() -> None:
    number = decode_sfloat(0x17FF)
    assert (number.special, number.anomalous) == (Special.NAN, True)
    assert decode_float(0xFE7FFFFF).anomalous


@given(st.integers(0, 0xFFFF))
def test_every_sfloat_encodes_to_itself(raw: int) -> None:
    assert encode_sfloat(decode_sfloat(raw)) == raw


@given(st.integers(0, 0xFFFFFFFF))
def test_every_float_encodes_to_itself(raw: int) -> None:
    assert encode_float(decode_float(raw)) == raw


@given(st.integers(0, 0xFFFFFFFF))
def test_the_text_is_the_exact_decimal_without_exponent(raw: int) -> None:
    number = decode_float(raw)
    if number.mantissa is not None:
        sign, digits = int(number.mantissa < 0), tuple(map(int, str(abs(number.mantissa))))
        assert Decimal(str(number)).as_tuple()[:1] == (sign,)
        assert Decimal(str(number)) == Decimal((sign, digits, number.exponent))
        assert "e" not in str(number).lower()


@pytest.mark.parametrize("number", [Number(2046), Number(-2046), Number(1, 8), Number(1, -9)])
def test_what_does_not_fit_into_an_sfloat_is_refused(number: Number) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode_sfloat(number)


def test_shifting_moves_the_point_and_nothing_else() -> None:
    assert str(Number(104, -5).shifted(5)) == "104"
    assert str(Number(3660, -2).shifted(-1)) == "3.660"
    assert Number(None, 0, Special.ABOVE).shifted(3) == Number(None, 0, Special.ABOVE)
