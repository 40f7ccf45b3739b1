"""Glucose meters: kg/L and mol/L become mg/dL to the digit, and a result without a number says why."""

from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DecodeError
from gateway.health import gls, metrics
from gateway.health.date_time import DateTime
from gateway.health.measurement import Measurement
from gateway.health.sfloat import Number, Special
from gateway.model import Extra, Reading, Reason

DEVICE = "F0:00:00:00:01:03"
BASE = "EA 07 0B 17 0A 1E 00"
TIME = DateTime(2026, 11, 23, 10, 30)

octet = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
sfloats = st.builds(Number, st.integers(-2045, 2045), st.integers(-8, 7)) | st.builds(
    Number, st.none(), st.integers(-8, 7), st.sampled_from(Special)
)


@st.composite
def measurements(draw: st.DrawFn) -> gls.Glucose:
    result = draw(st.booleans())
    return gls.Glucose(
        sequence=draw(u16),
        base_time=draw(st.datetimes(min_value=datetime.fromisoformat("1582-01-01")).map(DateTime.of)),
        time_offset_min=draw(
            st.none() | st.integers(-0x7FFF, 0x7FFE) | st.sampled_from([Special.ABOVE, Special.BELOW])
        ),
        concentration=draw(sfloats) if result else None,
        sample_type=draw(octet) if result else None,
        unit=draw(st.sampled_from(["kg/L", "mol/L"])),
        status=draw(st.none() | u16),
        context_follows=draw(st.booleans()),
        rfu_flags=draw(st.sampled_from([0, 0x20, 0xE0])),
    )


@st.composite
def contexts(draw: st.DrawFn) -> gls.Context:
    carbohydrate, exercise, medication = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return gls.Context(
        sequence=draw(u16),
        extended_flags=draw(st.none() | octet),
        carb_id=draw(octet) if carbohydrate else None,
        carb_kg=draw(sfloats) if carbohydrate else None,
        meal=draw(st.none() | octet),
        tester_health=draw(st.none() | octet),
        exercise_s=draw(st.integers(0, 0xFFFE) | st.just(Special.ABOVE)) if exercise else None,
        exercise_pct=draw(octet) if exercise else None,
        medication_id=draw(octet) if medication else None,
        medication=draw(sfloats) if medication else None,
        med_unit=draw(st.sampled_from(["kg", "L"])),
        hba1c_pct=draw(st.none() | sfloats),
    )


def decoded(value: str) -> gls.Glucose:
    return gls.Glucose.decode(bytes.fromhex(value))


def reading(measurement: gls.Glucose) -> Reading:
    (only,) = measurement.readings(device=DEVICE, time_ms=3)
    return only


def test_all_fields_in_their_order() -> None:
    measurement = decoded(f"1B 34 12 {BASE} F6 FF 68 B0 12 01 08")
    assert measurement.fields() == {
        "sequence_number": 0x1234,
        "base_time": "2026-11-23T10:30:00",
        "time_offset_min": -10,
        "concentration": Number(104, -5),
        "type": 2,
        "location": 1,
        "unit": "kg/L",
        "mg_dl": Number(104, 0),
        "mmol_l": Number(577, -2),
        "status": 0x0801,
        "context_follows": True,
    }


def test_a_record_as_a_retail_meter_sent_it() -> None:
    """An Accu-Chek Guide's, as published (`docs/devices.md`)."""
    measurement = decoded("1B 04 00 E4 07 07 0E 0B 06 05 5A 02 77 B0 F8 00 00")
    assert measurement.moment == datetime.fromisoformat("2020-07-14T21:08:05")
    assert measurement.fields() == {
        "sequence_number": 4,
        "base_time": "2020-07-14T11:06:05",
        "time_offset_min": 602,
        "concentration": Number(119, -5),
        "type": 8,
        "location": 15,
        "unit": "kg/L",
        "mg_dl": Number(119, 0),
        "mmol_l": Number(661, -2),
        "status": 0,
        "context_follows": True,
    }


def test_a_result_without_a_number_is_legal() -> None:
    fields = decoded(f"08 01 00 {BASE} 20 00").fields()
    assert fields == {
        "sequence_number": 1,
        "base_time": "2026-11-23T10:30:00",
        "status": 0x20,
        "context_follows": False,
    }


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00 01 00",
        f"00 01 00 {BASE} 00",
        f"01 01 00 {BASE} 00",
        f"02 01 00 {BASE} 68 B0",
        f"08 01 00 {BASE}",
        f"20 01 00 {BASE} 00",
        "00 01 00 EA 07 02 1E 0A 1E 00",
        "00 01 00 EA 07 0B 17 18 00 00",
    ],
)
def test_any_other_length_or_date_is_refused(value: str) -> None:
    with pytest.raises(DecodeError):
        decoded(value)


class TestUnits:
    def test_kg_per_litre_is_mg_per_decilitre_to_the_last_digit(self) -> None:
        only = reading(decoded(f"02 01 00 {BASE} 68 B0 11"))
        assert (only.metric, only.mantissa, only.exponent) == (metrics.GLUCOSE_CAPILLARY, 104, 0)
        assert dict(only.extras)[Extra.UNIT] == "kg/L"

    def test_trailing_zeros_stay(self) -> None:
        only = reading(gls.Glucose(sequence=0, base_time=TIME, concentration=Number(1040, -6), sample_type=0x11))
        assert (only.mantissa, only.exponent) == (1040, -1)

    @pytest.mark.parametrize(("tenths", "mg_dl"), [(39, "70.3"), (58, "104.5"), (100, "180.2"), (333, "599.9")])
    def test_mol_per_litre_is_converted_and_named(self, tenths: int, mg_dl: str) -> None:
        sent = gls.Glucose(sequence=0, base_time=TIME, concentration=Number(tenths, -4), sample_type=0x11, unit="mol/L")
        only = reading(sent)
        assert Decimal(only.mantissa or 0).scaleb(only.exponent) == Decimal(mg_dl)
        assert dict(only.extras)[Extra.UNIT] == "mol/L"
        assert sent.mmol_l == Number(tenths, -1)

    @given(st.integers(0, 2045), st.integers(-6, -3))
    def test_what_was_sent_as_mol_per_litre_can_be_told_from_mg_per_decilitre(
        self, mantissa: int, exponent: int
    ) -> None:
        sent = gls.Glucose(
            sequence=0, base_time=TIME, concentration=Number(mantissa, exponent), sample_type=0x11, unit="mol/L"
        )
        only = reading(sent)
        assert only.mantissa is not None
        mol_l = Decimal(only.mantissa).scaleb(only.exponent) / Decimal("18.0156") / 1000
        assert mol_l.quantize(Decimal(1).scaleb(exponent)) == Decimal(mantissa).scaleb(exponent)

    @given(st.integers(0, 2045), st.integers(-8, -4))
    def test_mg_per_decilitre_can_be_told_from_mmol_per_litre(self, mantissa: int, exponent: int) -> None:
        sent = gls.Glucose(sequence=0, base_time=TIME, concentration=Number(mantissa, exponent), sample_type=0x11)
        mmol_l = sent.mmol_l
        assert mmol_l is not None
        assert mmol_l.mantissa is not None
        mg_dl = Decimal(mmol_l.mantissa).scaleb(mmol_l.exponent) * Decimal("18.0156")
        assert mg_dl.quantize(Decimal(1).scaleb(exponent + 5)) == Decimal(mantissa).scaleb(exponent + 5)


class TestTime:
    def test_is_base_and_offset(self) -> None:
        assert decoded(f"01 01 00 {BASE} F6 FF").moment == datetime.fromisoformat("2026-11-23T10:20:00")
        assert decoded(f"00 01 00 {BASE}").moment == datetime.fromisoformat("2026-11-23T10:30:00")

    @pytest.mark.parametrize("offset", ["FF 7F", "00 80"])
    def test_is_unknown_where_the_offset_has_overrun(self, offset: str) -> None:
        measurement = decoded(f"01 01 00 {BASE} {offset}")
        assert measurement.moment is None
        assert reading(measurement).reasons == Reason.NO_VALUE | Reason.TIME_DOUBTFUL | Reason.ANOMALY
        told = measurement.fields()
        assert told["time_offset_min"] is None
        assert told["time_offset_min_special"] in {"+INF", "-INF"}

    def test_is_unknown_without_a_date_whose_fields_are_kept(self) -> None:
        measurement = decoded("00 01 00 00 00 00 00 0A 1E 00")
        assert measurement.moment is None
        assert measurement.fields()["base_time"] == "0000-00-00T10:30:00"
        assert reading(measurement).reasons & Reason.TIME_DOUBTFUL

    def test_never_leaves_the_calendar(self) -> None:
        assert gls.Glucose(sequence=0, base_time=DateTime(9999, 12, 31, 23, 59), time_offset_min=1).moment is None


class TestMeaning:
    @pytest.mark.parametrize(
        ("sample_type", "metric"),
        [
            (0x11, metrics.GLUCOSE_CAPILLARY),
            (0x12, metrics.GLUCOSE_CAPILLARY_PLASMA),
            (0x13, metrics.GLUCOSE_VENOUS),
            (0x14, metrics.GLUCOSE_VENOUS_PLASMA),
            (0x15, metrics.GLUCOSE_ARTERIAL),
            (0x16, metrics.GLUCOSE_ARTERIAL_PLASMA),
            (0x17, metrics.GLUCOSE_BLOOD),
            (0x18, metrics.GLUCOSE_PLASMA),
            (0x19, metrics.GLUCOSE),
            (0x1A, metrics.GLUCOSE_CONTROL),
            (0x41, metrics.GLUCOSE_CONTROL),
            (0x1B, metrics.GLUCOSE_GENERIC),
            (0x10, metrics.GLUCOSE_GENERIC),
        ],
    )
    def test_the_sample_names_the_metric(self, sample_type: int, metric: int) -> None:
        sent = gls.Glucose(sequence=0, base_time=TIME, concentration=Number(104, -5), sample_type=sample_type)
        only = reading(sent)
        assert only.metric == metric
        assert dict(only.extras)[Extra.SAMPLE_TYPE] == sample_type
        assert bool(only.reasons & Reason.CONTROL_SOLUTION) is (metric == metrics.GLUCOSE_CONTROL)
        assert bool(only.reasons & Reason.ANOMALY) is (metric == metrics.GLUCOSE_GENERIC)

    @pytest.mark.parametrize(
        ("bit", "reason"),
        [
            (0, Reason.BATTERY_LOW),
            *((bit, Reason.SENSOR_FAULT) for bit in (1, 2, 3, 4, 7, 8, 9, 10)),
            (5, Reason.OUT_OF_RANGE),
            (6, Reason.OUT_OF_RANGE),
            (11, Reason.TIME_DOUBTFUL),
            *((bit, Reason.ANOMALY) for bit in range(12, 16)),
        ],
    )
    def test_every_status_bit_has_its_reason(self, bit: int, reason: Reason) -> None:
        sent = gls.Glucose(sequence=0, base_time=TIME, concentration=Number(104, -5), sample_type=0x11, status=1 << bit)
        assert reading(sent).reasons == reason
        assert dict(reading(sent).extras)[Extra.STATUS] == 1 << bit

    @pytest.mark.parametrize(
        ("status", "why"),
        [(0x20, "result too high"), (0x40, "result too low"), (0x02, "no result"), (None, "no result")],
    )
    def test_no_number_says_why(self, status: int | None, why: str) -> None:
        only = reading(gls.Glucose(sequence=0, base_time=TIME, status=status))
        assert (only.mantissa, dict(only.extras)[Extra.SPECIAL]) == (None, why)
        assert only.reasons & Reason.NO_VALUE

    def test_a_special_number_says_which(self) -> None:
        only = reading(decoded(f"02 01 00 {BASE} FE 07 11"))
        assert (only.mantissa, dict(only.extras)[Extra.SPECIAL]) == (None, "+INF")


class TestContext:
    def test_all_fields_in_their_order(self) -> None:
        value = bytes.fromhex("FF 34 12 00 02 3C D0 03 51 08 07 32 04 0A D0 41 F0")
        assert gls.Context.decode(value).fields() == {
            "sequence_number": 0x1234,
            "extended_flags": 0,
            "carb_id": 2,
            "carb_kg": Number(60, -3),
            "meal": 3,
            "tester": 1,
            "health": 5,
            "exercise_s": 1800,
            "exercise_pct": 50,
            "med_id": 4,
            "medication": Number(10, -3),
            "med_unit": "L",
            "hba1c_pct": Number(65, -1),
            "flags": 0xFF,
        }

    def test_everything_that_was_sent_is_a_reading(self) -> None:
        value = bytes.fromhex("7E 34 12 03 51 08 07 32 04 0A D0 41 F0")
        readings = gls.Context.decode(value).readings(device=DEVICE, time_ms=0)
        assert [(each.metric, each.mantissa, each.exponent) for each in readings] == [
            (metrics.MEAL, 3, 0),
            (metrics.TESTER, 1, 0),
            (metrics.HEALTH, 5, 0),
            (metrics.EXERCISE_DURATION, 1800, 0),
            (metrics.EXERCISE_INTENSITY, 50, 0),
            (metrics.MEDICATION_VOLUME, 10, 0),
            (metrics.HBA1C, 65, -1),
        ]

    def test_a_dose_by_mass_is_in_milligrams(self) -> None:
        (only,) = gls.Context.decode(bytes.fromhex("10 34 12 04 05 A0")).readings(device=DEVICE, time_ms=0)
        assert (only.metric, only.mantissa, only.exponent) == (metrics.MEDICATION_MASS, 5, 0)

    def test_an_exercise_longer_than_can_be_told_has_no_duration(self) -> None:
        context = gls.Context.decode(bytes.fromhex("08 34 12 FF FF 32"))
        assert (context.fields()["exercise_s"], context.fields()["exercise_s_special"]) == (None, "+INF")
        duration, _ = context.readings(device=DEVICE, time_ms=0)
        assert (duration.mantissa, duration.reasons) == (None, Reason.NO_VALUE | Reason.OUT_OF_RANGE)

    def test_carbohydrate_is_in_grams(self) -> None:
        (only,) = gls.Context.decode(bytes.fromhex("01 34 12 02 3C D0")).readings(device=DEVICE, time_ms=0)
        assert (only.metric, only.mantissa, only.exponent) == (metrics.CARBOHYDRATE, 60, 0)
        assert dict(only.extras)[Extra.SEQUENCE] == 0x1234


def test_the_feature_is_a_word() -> None:
    assert gls.Feature.decode(bytes.fromhex("FF 03")).fields() == {"features": 0x03FF}
    with pytest.raises(DecodeError):
        gls.Feature.decode(bytes.fromhex("FF"))


@given(measurements() | contexts() | st.builds(gls.Feature, features=u16))
def test_every_value_survives_the_wire(sent: Measurement) -> None:
    assert type(sent).decode(sent.encode()) == sent


@given(st.sampled_from(list(gls.CHARACTERISTICS.values())), st.binary(max_size=24))
def test_any_octets_are_a_value_or_a_declared_error(kind: type[Measurement], value: bytes) -> None:
    try:
        measurement = kind.decode(value)
    except DecodeError:
        return
    assert measurement.encode() == value
    measurement.readings(device=DEVICE, time_ms=0)
