"""Heart rate."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.metrics import ENERGY_EXPENDED, HEART_RATE, RR_INTERVAL
from gateway.model import Reading, Reason


def told(octets: str) -> dict[str, object]:
    return health.decode(0x2A37, bytes.fromhex(octets)).fields()


def read(octets: str) -> list[Reading]:
    return list(health.decode(0x2A37, bytes.fromhex(octets)).readings(device="d", time_ms=0))


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        ("00 48", {"hr_bpm": 72}),
        ("01 2c 01", {"hr_bpm": 300}),
        ("01 48 00", {"hr_bpm": 72}),
        ("02 48", {"hr_bpm": 72}),
        ("04 48", {"hr_bpm": 72, "contact": False}),
        ("06 48", {"hr_bpm": 72, "contact": True}),
        ("08 48 ff ff", {"hr_bpm": 72, "energy_kj": 65535}),
        ("10 48 00 04 10 04", {"hr_bpm": 72, "rr_raw": [1024, 1040]}),
        ("1e 48 0a 00 00 04", {"hr_bpm": 72, "contact": True, "energy_kj": 10, "rr_raw": [1024]}),
        ("e0 48", {"hr_bpm": 72, "rfu_flags": 0xE0}),
    ],
)
def test_it_says_what_was_sent_and_encodes_to_it(octets: str, fields: dict[str, object]) -> None:
    assert told(octets) == fields
    assert health.decode(0x2A37, bytes.fromhex(octets)).encode() == bytes.fromhex(octets)


@pytest.mark.parametrize("octets", ["", "00", "01 48", "00 48 00", "08 48 00", "10 48", "10 48 00", "10 48 00 04 10"])
def test_a_length_that_the_flags_do_not_explain_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        told(octets)


def test_intervals_become_milliseconds_that_tell_the_ticks() -> None:
    rate, energy, *intervals = read("18 48 0a 00 00 04 10 04")
    assert (rate.metric, rate.mantissa, rate.exponent) == (HEART_RATE, 72, 0)
    assert (energy.metric, energy.mantissa) == (ENERGY_EXPENDED, 10)
    assert [(each.metric, each.mantissa, each.exponent) for each in intervals] == [
        (RR_INTERVAL, 10000, -1),
        (RR_INTERVAL, 10156, -1),
    ]


def test_without_contact_the_rate_is_doubtful_and_zero_is_no_value() -> None:
    assert read("04 48")[0].reasons == Reason.SIGNAL
    assert read("04 00")[0].reasons == Reason.SIGNAL | Reason.NO_VALUE
    assert read("06 48")[0].reasons == Reason.NONE
    assert read("00 48")[0].reasons == Reason.NONE


def test_where_the_sensor_sits() -> None:
    assert health.decode(0x2A38, b"\x01").fields() == {"value": 1}
    assert health.decode(0x2A38, b"\xc8").fields() == {"value": 200}
