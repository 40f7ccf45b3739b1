"""Pulse oximetry: two measurements whose flags differ, and what their status says about the values."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DecodeError
from gateway.health import plx
from gateway.health.date_time import DateTime
from gateway.health.measurement import Measurement
from gateway.health.metrics import (
    PULSE_AMPLITUDE,
    PULSE_RATE,
    PULSE_RATE_FAST,
    PULSE_RATE_SLOW,
    SPO2,
    SPO2_FAST,
    SPO2_SLOW,
)
from gateway.health.sfloat import Number, Special
from gateway.model import Extra, Reason

DEVICE = "F0:00:00:00:01:02"

u16 = st.integers(0, 0xFFFF)
u24 = st.integers(0, 0xFFFFFF)
sfloats = st.builds(Number, st.integers(-2045, 2045), st.integers(-8, 7)) | st.builds(
    Number, st.none(), st.integers(-8, 7), st.sampled_from(Special)
)
times = st.datetimes(min_value=datetime.fromisoformat("1582-01-01")).map(DateTime.of)


@st.composite
def continuous(draw: st.DrawFn) -> plx.Continuous:
    fast, slow = draw(st.booleans()), draw(st.booleans())
    return plx.Continuous(
        spo2_pct=draw(sfloats),
        pr_bpm=draw(sfloats),
        spo2_fast=draw(sfloats) if fast else None,
        pr_fast=draw(sfloats) if fast else None,
        spo2_slow=draw(sfloats) if slow else None,
        pr_slow=draw(sfloats) if slow else None,
        measurement_status=draw(st.none() | u16),
        device_status=draw(st.none() | u24),
        pai_pct=draw(st.none() | sfloats),
        rfu_flags=draw(st.sampled_from([0, 0x20, 0xE0])),
    )


spot_checks = st.builds(
    plx.SpotCheck,
    spo2_pct=sfloats,
    pr_bpm=sfloats,
    timestamp=st.none() | times,
    measurement_status=st.none() | u16,
    device_status=st.none() | u24,
    pai_pct=st.none() | sfloats,
    clock_not_set=st.booleans(),
    rfu_flags=st.sampled_from([0, 0x20, 0xE0]),
)
features = st.builds(
    plx.Features,
    measurement_status_support=st.none() | u16,
    device_status_support=st.none() | u24,
    rfu_flags=u16.map(lambda bits: bits & ~3),
)


def test_the_shortest_continuous_value() -> None:
    assert plx.Continuous.decode(bytes.fromhex("00 61 00 48 00")) == plx.Continuous(
        spo2_pct=Number(97), pr_bpm=Number(72)
    )


def test_the_longest_continuous_value_has_all_pairs_in_their_order() -> None:
    value = bytes.fromhex("1F CD F3 D4 F2 60 00 49 00 5F 00 4A 00 20 01 40 00 00 0F F0")
    assert plx.Continuous.decode(value).fields() == {
        "spo2_pct": Number(973, -1),
        "pr_bpm": Number(724, -1),
        "spo2_fast": Number(96),
        "pr_fast": Number(73),
        "spo2_slow": Number(95),
        "pr_slow": Number(74),
        "measurement_status": 0x0120,
        "device_status": 0x40,
        "pai_pct": Number(15, -1),
    }


def test_a_spot_check_has_flags_of_its_own() -> None:
    value = bytes.fromhex("0F 61 00 48 00 EA 07 0B 17 0A 1E 05 00 01 40 00 00 0F F0")
    spot_check = plx.SpotCheck.decode(value)
    assert spot_check.fields() == {
        "spo2_pct": Number(97),
        "pr_bpm": Number(72),
        "timestamp": "2026-11-23T10:30:05",
        "measurement_status": 0x0100,
        "device_status": 0x40,
        "pai_pct": Number(15, -1),
        "clock_not_set": False,
    }
    assert spot_check.moment == datetime.fromisoformat("2026-11-23T10:30:05")


def test_a_clock_that_was_never_set_tells_no_moment() -> None:
    spot_check = plx.SpotCheck.decode(bytes.fromhex("11 61 00 48 00 EA 07 0B 17 0A 1E 05"))
    assert spot_check.timestamp is not None
    assert spot_check.moment is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (plx.Continuous, ""),
        (plx.Continuous, "00 61 00 48"),
        (plx.Continuous, "00 61 00 48 00 00"),
        (plx.Continuous, "01 61 00 48 00 60 00"),
        (plx.Continuous, "08 61 00 48 00 40 00"),
        (plx.Continuous, "20 61 00 48 00 40 00"),
        (plx.SpotCheck, "01 61 00 48 00"),
        (plx.SpotCheck, "01 61 00 48 00 EA 07 0D 17 0A 1E 05"),
        (plx.SpotCheck, "02 61 00 48 00 EA 07 0B 17 0A 1E 05"),
        (plx.Features, "00"),
        (plx.Features, "01 00"),
        (plx.Features, "00 00 00 00"),
    ],
)
def test_any_other_length_or_date_is_refused(kind: type[Measurement], value: str) -> None:
    with pytest.raises(DecodeError):
        kind.decode(bytes.fromhex(value))


def test_features_tell_which_status_bits_follow() -> None:
    value = plx.Features.decode(bytes.fromhex("0B 01 E0 FF FE FF 00"))
    assert value.fields() == {
        "features": 0x010B,
        "measurement_status_support": 0xFFE0,
        "device_status_support": 0x00FFFE,
    }


def test_every_value_is_a_reading_of_its_own_metric() -> None:
    value = bytes.fromhex("13 61 00 48 00 60 00 49 00 5F 00 4A 00 0F F0")
    readings = plx.Continuous.decode(value).readings(device=DEVICE, time_ms=9)
    assert [(each.metric, each.mantissa, each.exponent) for each in readings] == [
        (SPO2, 97, 0),
        (PULSE_RATE, 72, 0),
        (SPO2_FAST, 96, 0),
        (PULSE_RATE_FAST, 73, 0),
        (SPO2_SLOW, 95, 0),
        (PULSE_RATE_SLOW, 74, 0),
        (PULSE_AMPLITUDE, 15, -1),
    ]
    assert {(each.device, each.time_ms, each.reasons, each.extras) for each in readings} == {
        (DEVICE, 9, Reason.NONE, ())
    }


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (0, Reason.ANOMALY),
        (4, Reason.ANOMALY),
        (5, Reason.NONE),
        (6, Reason.DEVICE_DOUBTS),
        (7, Reason.NONE),
        (8, Reason.NONE),
        (9, Reason.STORED),
        (10, Reason.DEMO_DATA),
        (11, Reason.TEST_DATA),
        (12, Reason.CALIBRATION),
        (13, Reason.NOT_READY),
        (14, Reason.DEVICE_DOUBTS),
        (15, Reason.SENSOR_FAULT),
    ],
)
def test_every_measurement_status_bit_has_its_reason(bit: int, reason: Reason) -> None:
    measurement = plx.Continuous(spo2_pct=Number(97), pr_bpm=Number(72), measurement_status=1 << bit)
    readings = measurement.readings(device=DEVICE, time_ms=0)
    assert {each.reasons for each in readings} == {reason}
    assert {each.extras for each in readings} == {((int(Extra.STATUS), 1 << bit),)}


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (0, Reason.NONE),
        (1, Reason.SENSOR_FAULT),
        *((bit, Reason.SIGNAL) for bit in range(2, 9)),
        (9, Reason.NONE),
        (10, Reason.SIGNAL),
        (11, Reason.SENSOR_FAULT),
        (12, Reason.DEVICE_DOUBTS),
        (13, Reason.SIGNAL),
        (14, Reason.SENSOR_FAULT),
        (15, Reason.SENSOR_FAULT),
        (16, Reason.ANOMALY),
        (23, Reason.ANOMALY),
    ],
)
def test_every_device_status_bit_has_its_reason(bit: int, reason: Reason) -> None:
    measurement = plx.SpotCheck(spo2_pct=Number(97), pr_bpm=Number(72), device_status=1 << bit)
    readings = measurement.readings(device=DEVICE, time_ms=0)
    assert {each.reasons for each in readings} == {reason}
    assert {each.extras for each in readings} == {((int(Extra.STATUS), 1 << bit + 16),)}


def test_a_special_value_leaves_the_other_usable() -> None:
    saturation, pulse = plx.Continuous.decode(bytes.fromhex("00 FF 07 48 00")).readings(device=DEVICE, time_ms=0)
    assert (saturation.mantissa, dict(saturation.extras)[Extra.SPECIAL]) == (None, "NaN")
    assert (pulse.mantissa, pulse.reasons) == (72, Reason.NONE)


@given(continuous() | spot_checks | features)
def test_every_value_survives_the_wire(sent: Measurement) -> None:
    assert type(sent).decode(sent.encode()) == sent


@given(st.sampled_from(list(plx.CHARACTERISTICS.values())), st.binary(max_size=24))
def test_any_octets_are_a_value_or_a_declared_error(kind: type[Measurement], value: bytes) -> None:
    try:
        measurement = kind.decode(value)
    except DecodeError:
        return
    assert measurement.encode() == value
    measurement.readings(device=DEVICE, time_ms=0)


def test_a_spot_check_keeps_the_oximeters_own_time() -> None:
    check = plx.SpotCheck.decode(bytes.fromhex("11 61 00 48 00 E8 07 02 0D 0C 0B 0A"))
    assert check.moment is None  # its clock is not set
    for reading in check.readings(device=DEVICE, time_ms=0):
        assert dict(reading.extras) == {Extra.DEVICE_TIME: "2024-02-13T12:11:10"}
