"""CGM Specific Ops Control Point."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.cgm_control import Level
from gateway.health.crc import CrcError, with_crc
from gateway.health.sfloat import Number


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        ("01 05", {"op": 1, "interval_min": 5}),
        ("02", {"op": 2}),
        ("03 ff", {"op": 3, "interval_min": 255}),
        (
            "04 68 00 0a 00 16 3c 00 01 00 02",
            {
                "op": 4,
                "cal_mg_dl": Number(104),
                "cal_time_min": 10,
                "type": 6,
                "location": 1,
                "next_cal_min": 60,
                "record": 1,
                "cal_status": 2,
            },
        ),
        ("05 ff ff", {"op": 5, "record": 65535}),
        ("07 b4 00", {"op": 7, "patient_high": Number(180)}),
        ("0b", {"op": 11}),
        ("0c 46 00", {"op": 12, "patient_low": Number(70)}),
        ("0d 36 00", {"op": 13, "hypo": Number(54)}),
        ("12 fa 00", {"op": 18, "hyper": Number(250)}),
        ("13 14 f0", {"op": 19, "rate_dec": Number(20, -1)}),
        ("18 ff 07", {"op": 24, "rate_inc": None, "rate_inc_special": "NaN"}),
        ("1a", {"op": 26}),
        ("1c 07 01", {"op": 28, "request": 7, "code": 1}),
        ("1c c8 c9", {"op": 28, "request": 200, "code": 201}),
    ],
)
def test_it_says_what_was_sent_and_encodes_to_it(octets: str, fields: dict[str, object]) -> None:
    operation = health.decode(0x2AAC, bytes.fromhex(octets))
    assert operation.fields() == fields
    assert operation.encode() == bytes.fromhex(octets)


@pytest.mark.parametrize(
    "octets", ["", "00", "1d", "01", "01 05 00", "02 00", "04 68 00", "07 b4", "1c 07", "1a 00 00"]
)
def test_what_breaks_the_table_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        health.decode(0x2AAC, bytes.fromhex(octets))


def test_a_crc_is_checked_where_the_feature_promises_one() -> None:
    value = with_crc(bytes.fromhex("07 b4 00"))
    level = health.decode(0x2AAC, value, e2e_crc=True)
    assert level == Level(op=7, level=Number(180))
    assert level.fields()["crc"] == int.from_bytes(value[-2:], "little")
    assert level.encode(e2e_crc=True) == value
    with pytest.raises(CrcError):
        health.decode(0x2AAC, value[:-1] + b"\x00", e2e_crc=True)
    with pytest.raises(DecodeError):
        health.decode(0x2AAC, value, e2e_crc=False)
