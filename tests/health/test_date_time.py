"""Date Time, zones and daylight saving."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DecodeError
from gateway.health.date_time import (
    DateTime,
    decode_date_time,
    decode_dst,
    decode_time_zone,
    encode_date_time,
    utc_offset_min,
)


def octets(*parts: int) -> bytes:
    return parts[0].to_bytes(2, "little") + bytes(parts[1:])


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((2024, 2, 29, 23, 59, 59), "2024-02-29T23:59:59"),
        ((0, 0, 0, 12, 34, 56), "0000-00-00T12:34:56"),
        ((0, 2, 29, 0, 0, 0), "0000-02-29T00:00:00"),
        ((2026, 0, 31, 1, 2, 3), "2026-00-31T01:02:03"),
        ((1582, 1, 1, 0, 0, 0), "1582-01-01T00:00:00"),
    ],
)
def test_it_prints_as_sent_with_zeros_for_what_is_unknown(parts: tuple[int, ...], text: str) -> None:
    assert decode_date_time(octets(*parts)).isoformat() == text


@pytest.mark.parametrize(
    "parts",
    [
        (1581, 1, 1, 0, 0, 0),
        (10000, 1, 1, 0, 0, 0),
        (2026, 13, 1, 0, 0, 0),
        (2026, 4, 31, 0, 0, 0),
        (2026, 2, 29, 0, 0, 0),
        (1900, 2, 29, 0, 0, 0),
        (2026, 0, 32, 0, 0, 0),
        (2026, 1, 1, 24, 0, 0),
        (2026, 1, 1, 0, 60, 0),
        (2026, 1, 1, 0, 0, 60),
    ],
)
def test_what_is_in_no_calendar_is_refused(parts: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError):
        decode_date_time(octets(*parts))


@pytest.mark.parametrize("date", [(0, 1, 1), (2026, 0, 1), (2026, 1, 0)])
def test_a_date_with_an_unknown_part_is_no_moment(date: tuple[int, int, int]) -> None:
    assert DateTime(*date).moment is None
    assert DateTime(*date).later(5) is None


@given(st.datetimes(min_value=datetime(1582, 1, 1)).map(DateTime.of))  # noqa: DTZ001 - a device tells no zone
def test_it_encodes_to_what_it_decodes_from(moment: DateTime) -> None:
    assert decode_date_time(encode_date_time(moment)) == moment


def test_minutes_are_added_across_years_and_not_beyond_the_calendar() -> None:
    assert DateTime(2023, 12, 31, 23, 59).later(1) == DateTime(2024, 1, 1)
    assert DateTime(9999, 12, 31, 23, 59).later(1) is None


@pytest.mark.parametrize(
    ("zone", "dst", "minutes"), [(4, 0, 60), (-20, 4, -240), (23, 2, 375), (-128, 0, None), (0, 255, None)]
)
def test_the_offset_from_utc_is_zone_plus_daylight_saving(zone: int, dst: int, minutes: int | None) -> None:
    assert utc_offset_min(decode_time_zone(zone), decode_dst(dst)) == minutes


@pytest.mark.parametrize("zone", [-49, 57, -127])
def test_zones_that_do_not_exist_are_refused(zone: int) -> None:
    with pytest.raises(DecodeError):
        decode_time_zone(zone)


@pytest.mark.parametrize("dst", [1, 3, 254])
def test_daylight_savings_that_do_not_exist_are_refused(dst: int) -> None:
    with pytest.raises(DecodeError):
        decode_dst(dst)
