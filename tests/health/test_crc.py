"""E2E-CRC."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DecodeError
from gateway.health.crc import CrcError, e2e_crc, split_crc, with_crc


def bit_by_bit(octets: bytes) -> int:
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc


def test_the_check_value_of_the_catalogue() -> None:
    assert e2e_crc(b"123456789") == 0x6F91


@given(st.binary(max_size=40))
def test_it_is_the_polynomial_division_that_the_specification_describes(octets: bytes) -> None:
    assert e2e_crc(octets) == bit_by_bit(octets)


def test_it_is_taken_off_where_it_is_promised_or_the_length_tells() -> None:
    value = with_crc(b"abc")
    assert split_crc(value, 3, present=True) == (b"abc", e2e_crc(b"abc"))
    assert split_crc(value, 3, present=None) == (b"abc", e2e_crc(b"abc"))
    assert split_crc(b"abc", 3, present=None) == (b"abc", None)
    assert split_crc(value, 3, present=False) == (value, None)


@given(st.binary(min_size=1, max_size=20), st.data())
def test_one_flipped_bit_is_seen(octets: bytes, data: st.DataObject) -> None:
    value = bytearray(with_crc(octets))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CrcError, match="does not match"):
        split_crc(bytes(value), len(octets), present=True)


@pytest.mark.parametrize("value", [b"", b"abc", b"abcd", b"abcdef"])
def test_a_promised_crc_that_is_missing_is_refused(value: bytes) -> None:
    with pytest.raises(DecodeError, match="a CRC"):
        split_crc(value, 3, present=True)
