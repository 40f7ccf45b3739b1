"""Clocks of wearables."""

from datetime import datetime

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.clock import CurrentTime


def test_current_time() -> None:
    value = bytes.fromhex("e8 07 02 0d 0c 0b 0a 02 80 01")
    now = health.decode(0x2A2B, value)
    assert now.fields() == {"datetime": "2024-02-13T12:11:10", "dow": 2, "frac256": 128, "adjust": 1}
    assert isinstance(now, CurrentTime)
    assert now.moment == datetime(2024, 2, 13, 12, 11, 10, 500_000)  # noqa: DTZ001 - the device tells no zone
    assert now.encode() == value


def test_a_clock_can_be_shown() -> None:
    moment = datetime(2024, 2, 13, 12, 11, 10, 250_000)  # noqa: DTZ001 - the device tells no zone
    shown = CurrentTime.of(moment)
    assert (shown.moment, shown.dow) == (moment, 2)


def test_a_clock_that_was_never_set_shows_no_moment() -> None:
    never_set = health.decode(0x2A2B, bytes(10))
    assert never_set.fields()["datetime"] == "0000-00-00T00:00:00"
    assert isinstance(never_set, CurrentTime)
    assert never_set.moment is None


@pytest.mark.parametrize(
    ("characteristic", "octets", "fields"),
    [
        (0x2A08, "e8 07 02 0d 0c 0b 0a", {"datetime": "2024-02-13T12:11:10"}),
        (0x2A0F, "04 04", {"time_zone": 4, "dst": 4, "utc_offset_min": 120}),
        (0x2A0F, "80 00", {"time_zone": -128, "dst": 0, "utc_offset_min": None}),
        (0x2A14, "01 08 02 03", {"source": 1, "accuracy": 8, "days": 2, "hours": 3}),
    ],
)
def test_what_stands_beside_it(characteristic: int, octets: str, fields: dict[str, object]) -> None:
    assert health.decode(characteristic, bytes.fromhex(octets)).fields() == fields


@pytest.mark.parametrize(
    ("characteristic", "octets"),
    [
        (0x2A2B, "e8 07 02 0d 0c 0b 0a 08 00 00"),
        (0x2A2B, "e8 07 02 0d 0c 0b 0a 01 00"),
        (0x2A0F, "39 00"),
        (0x2A0F, "00 01"),
    ],
)
def test_what_no_clock_shows_is_refused(characteristic: int, octets: str) -> None:
    with pytest.raises(DecodeError):
        health.decode(characteristic, bytes.fromhex(octets))
