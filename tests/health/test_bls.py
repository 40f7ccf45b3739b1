"""Blood pressure."""

import pytest

from gateway import health
from gateway.errors import DecodeError
from gateway.health.metrics import BLOOD_PRESSURE_PULSE, CUFF_PRESSURE, DIASTOLIC, MEAN_ARTERIAL, SYSTOLIC
from gateway.health.sfloat import Number
from gateway.model import Extra, Reading, Reason

PLAIN = {"unit": "mmHg", "systolic": Number(120), "diastolic": Number(80)}


def read(octets: str, characteristic: int = 0x2A35) -> list[Reading]:
    return list(health.decode(characteristic, bytes.fromhex(octets)).readings(device="d", time_ms=0))


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        ("00 78 00 50 00 5d 00", PLAIN | {"map": Number(93)}),
        ("00 78 00 50 00 ff 07", PLAIN | {"map": None, "map_special": "NaN"}),
        (
            "1e 78 00 50 00 5d 00 e8 07 02 0d 0c 0b 0a 48 00 01 04 00",
            PLAIN
            | {
                "map": Number(93),
                "timestamp": "2024-02-13T12:11:10",
                "pulse_bpm": Number(72),
                "user_id": 1,
                "status": 4,
            },
        ),
        (
            "01 a0 f0 6b f0 7c f0",
            {"unit": "kPa", "systolic": Number(160, -1), "diastolic": Number(107, -1), "map": Number(124, -1)},
        ),
        ("e0 78 00 50 00 5d 00", PLAIN | {"map": Number(93), "rfu_flags": 0xE0}),
    ],
)
def test_it_says_what_was_sent_and_encodes_to_it(octets: str, fields: dict[str, object]) -> None:
    pressure = health.decode(0x2A35, bytes.fromhex(octets))
    assert pressure.fields() == fields
    assert pressure.encode() == bytes.fromhex(octets)


@pytest.mark.parametrize("octets", ["", "00 78 00 50 00 5d", "00 78 00 50 00 5d 00 00", "04 78 00 50 00 5d 00"])
def test_a_length_that_the_flags_do_not_explain_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        read(octets)


def test_one_measurement_is_four_readings() -> None:
    readings = read("1c 78 00 50 00 5d 00 48 00 01 00 00")
    assert [(each.metric, each.mantissa) for each in readings] == [
        (SYSTOLIC, 120),
        (DIASTOLIC, 80),
        (MEAN_ARTERIAL, 93),
        (BLOOD_PRESSURE_PULSE, 72),
    ]


def test_a_mean_that_the_device_does_not_have_is_no_reading() -> None:
    assert [each.metric for each in read("00 78 00 50 00 ff 07")] == [SYSTOLIC, DIASTOLIC]


def test_kilopascals_become_millimetres_so_finely_that_they_can_be_told_back() -> None:
    for tenths in range(40, 400):
        systolic, *_ = read("01" + (0xF000 | tenths).to_bytes(2, "little").hex() + "01 f0 ff 07")
        assert systolic.mantissa is not None
        assert round(systolic.mantissa / 10 / 7.50062, 1) == tenths / 10
        assert dict(systolic.extras)[Extra.UNIT] == "kPa"


@pytest.mark.parametrize(
    ("status", "reasons"),
    [
        ("01 00", Reason.SIGNAL),
        ("02 00", Reason.SIGNAL),
        ("04 00", Reason.NONE),
        ("08 00", Reason.NONE),
        ("18 00", Reason.ANOMALY),
        ("20 00", Reason.SIGNAL),
        ("40 00", Reason.ANOMALY),
    ],
)
def test_what_the_cuff_says_about_the_measurement(status: str, reasons: Reason) -> None:
    systolic, *_ = read("10 78 00 50 00 5d 00" + status)
    assert systolic.reasons == reasons


@pytest.mark.parametrize("octets", ["00 50 00 78 00 5d 00", "00 50 00 50 00 5d 00"])
def test_an_upper_pressure_that_is_not_above_the_lower_is_implausible(octets: str) -> None:
    assert all(each.reasons == Reason.IMPLAUSIBLE for each in read(octets))


def test_the_pressure_in_the_cuff_while_it_is_pumped() -> None:
    (reading,) = read("00 64 00 ff 07 ff 07", characteristic=0x2A36)
    assert (reading.metric, reading.mantissa) == (CUFF_PRESSURE, 100)


def test_features() -> None:
    assert health.decode(0x2A49, b"\x3f\x00").fields() == {"features": 0x3F}


@pytest.mark.parametrize(("user", "told"), [("02", 2), ("00", 0), ("ff", None)])
def test_every_reading_tells_whose_it_is_unless_that_is_unknown(user: str, told: int | None) -> None:
    assert {dict(each.extras).get(Extra.USER) for each in read("0c 78 00 50 00 5d 00 48 00" + user)} == {told}
