"""CGM values: exact lengths, checked CRCs, status octets where GSS puts them, and nothing that loops."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DecodeError
from gateway.health import cgm
from gateway.health.crc import CrcError, with_crc
from gateway.health.date_time import DateTime
from gateway.health.measurement import Measurement
from gateway.health.metrics import GLUCOSE, GLUCOSE_QUALITY, GLUCOSE_TREND
from gateway.health.sfloat import Number, Special
from gateway.model import Extra, Reading, Reason

DEVICE = "F0:00:00:00:01:01"

octet = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
sfloats = st.builds(Number, st.integers(-2045, 2045), st.integers(-8, 7)) | st.builds(
    Number, st.none(), st.integers(-8, 7), st.sampled_from(Special)
)
records = st.builds(
    cgm.Record,
    glucose=sfloats,
    offset_min=u16,
    status=st.none() | octet,
    cal_temp=st.none() | octet,
    warning=st.none() | octet,
    trend=st.none() | sfloats,
    quality=st.none() | sfloats,
    rfu_flags=st.sampled_from([0, 0x04, 0x1C]),
)


def only(value: str, *, e2e_crc: bool | None = False) -> cgm.Record:
    (record,) = cgm.Records.decode(bytes.fromhex(value), e2e_crc=e2e_crc).records
    return record


def glucose(record: cgm.Record) -> Reading:
    (reading,) = record.readings(device=DEVICE, time_ms=1)
    return reading


class TestMeasurement:
    def test_the_shortest_record(self) -> None:
        assert only("06 00 68 00 0A 00") == cgm.Record(glucose=Number(104), offset_min=10)

    def test_the_longest_record(self) -> None:
        value = with_crc(bytes.fromhex("0F E3 68 00 0A 00 01 02 04 14 F0 5F 00"))
        (record,) = cgm.Records.decode(value, e2e_crc=True).records
        assert record == cgm.Record(
            glucose=Number(104),
            offset_min=10,
            status=1,
            cal_temp=2,
            warning=4,
            trend=Number(20, -1),
            quality=Number(95),
        )
        assert record.status_bits == 0x040201

    @pytest.mark.parametrize(
        ("flags", "octets"), [(0x80, (0x10, None, None)), (0x40, (None, 0x10, None)), (0x20, (None, None, 0x10))]
    )
    def test_a_single_status_octet_is_the_one_that_its_flag_names(
        self, flags: int, octets: tuple[int | None, ...]
    ) -> None:
        record = only(f"07 {flags:02x} 68 00 0A 00 10")
        assert (record.status, record.cal_temp, record.warning) == octets

    def test_several_records_stand_back_to_back(self) -> None:
        measurement = cgm.Records.decode(bytes.fromhex("06 00 68 00 0A 00 07 80 69 00 0B 00 01"))
        assert [(each.glucose.mantissa, each.offset_min, each.status) for each in measurement.records] == [
            (104, 10, None),
            (105, 11, 1),
        ]

    def test_fields_are_named_as_the_command_line_names_them(self) -> None:
        fields = only("0C C3 FF 07 0A 00 01 02 14 F0 5F 00").fields()
        assert fields == {
            "glucose_mg_dl": None,
            "glucose_mg_dl_special": "NaN",
            "time_offset_min": 10,
            "status": 1,
            "cal_temp": 2,
            "trend": Number(20, -1),
            "quality_pct": Number(95),
        }

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "00",
            "06",
            "00 00 64 00 0A 00",
            "05 00 64 00 0A",
            "06 00 64 00 0A",
            "07 00 64 00 0A 00",
            "07 00 64 00 0A 00 00",
            "06 01 64 00 0A 00",
            "06 00 64 00 0A 00 00",
            "06 00 64 00 0A 00 06 00 64 00 0A",
            "FF 00 64 00 0A 00",
        ],
    )
    def test_any_other_length_is_refused(self, value: str) -> None:
        with pytest.raises(DecodeError):
            cgm.Records.decode(bytes.fromhex(value), e2e_crc=False)

    def test_reserved_flags_are_kept_and_noted(self) -> None:
        record = only("06 1C 68 00 0A 00")
        assert record.fields()["rfu_flags"] == 0x1C
        assert glucose(record).reasons == Reason.ANOMALY


class TestCrc:
    GOOD = with_crc(bytes.fromhex("08 00 68 00 0A 00"))

    def test_is_checked_where_the_feature_promises_it(self) -> None:
        assert only(self.GOOD.hex(), e2e_crc=True).glucose == Number(104)
        with pytest.raises(CrcError):
            only(self.GOOD[:-1].hex() + "00", e2e_crc=True)

    def test_must_be_there_if_it_is_promised_and_not_otherwise(self) -> None:
        with pytest.raises(DecodeError):
            only("06 00 68 00 0A 00", e2e_crc=True)
        with pytest.raises(DecodeError):
            only(self.GOOD.hex(), e2e_crc=False)

    def test_is_inferred_from_the_length_if_nothing_is_promised(self) -> None:
        assert only(self.GOOD.hex(), e2e_crc=None) == only("06 00 68 00 0A 00", e2e_crc=None)
        with pytest.raises(CrcError):
            only(self.GOOD[:-1].hex() + "00", e2e_crc=None)

    def test_a_damaged_record_ends_the_notification_and_those_before_it_are_kept(self) -> None:
        damaged = self.GOOD[:2] + b"\x69" + self.GOOD[3:]
        measurement = cgm.Records.decode(self.GOOD + damaged + self.GOOD, e2e_crc=True)
        assert [each.glucose for each in measurement.records] == [Number(104)]
        assert measurement.fields()["cut_short"] is True

    @given(st.integers(0, 63))
    def test_no_flipped_bit_passes(self, bit: int) -> None:
        damaged = bytearray(self.GOOD)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            cgm.Records.decode(bytes(damaged), e2e_crc=True)


class TestReadings:
    def test_glucose_trend_and_quality_share_time_and_status(self) -> None:
        record = only("0C C3 68 00 0A 00 02 00 14 F0 5F 00")
        readings = record.readings(device=DEVICE, time_ms=7)
        assert [(each.metric, each.mantissa, each.exponent) for each in readings] == [
            (GLUCOSE, 104, 0),
            (GLUCOSE_TREND, 20, -1),
            (GLUCOSE_QUALITY, 95, 0),
        ]
        assert {each.time_ms for each in readings} == {7}
        assert {each.extras for each in readings} == {((int(Extra.SEQUENCE), 10), (int(Extra.STATUS), 2))}

    @pytest.mark.parametrize(
        ("status", "cal_temp", "warning", "reason"),
        [
            (0x01, 0, 0, Reason.NOT_READY),
            (0x02, 0, 0, Reason.BATTERY_LOW),
            (0x04, 0, 0, Reason.SENSOR_FAULT),
            (0x08, 0, 0, Reason.SENSOR_FAULT),
            (0x10, 0, 0, Reason.DEVICE_DOUBTS),
            (0x20, 0, 0, Reason.SENSOR_FAULT),
            (0x40, 0, 0, Reason.ANOMALY),
            (0, 0x01, 0, Reason.TIME_DOUBTFUL),
            (0, 0x02, 0, Reason.NONE),
            (0, 0x04, 0, Reason.CALIBRATION),
            (0, 0x08, 0, Reason.CALIBRATION),
            (0, 0x10, 0, Reason.SENSOR_FAULT),
            (0, 0x20, 0, Reason.SENSOR_FAULT),
            (0, 0x40, 0, Reason.CALIBRATION),
            (0, 0x80, 0, Reason.ANOMALY),
            (0, 0, 0x01, Reason.NONE),
            (0, 0, 0x10, Reason.NONE),
            (0, 0, 0x40, Reason.OUT_OF_RANGE),
            (0, 0, 0x80, Reason.OUT_OF_RANGE),
        ],
    )
    def test_every_status_bit_has_its_reason(self, status: int, cal_temp: int, warning: int, reason: Reason) -> None:
        record = cgm.Record(glucose=Number(104), offset_min=0, status=status, cal_temp=cal_temp, warning=warning)
        assert glucose(record).reasons == reason

    @pytest.mark.parametrize(
        ("warning", "value"), [(0x04, 250), (0x01, 180), (0x08, 50), (0x02, 70), (0x0C, 104), (0x30, 104)]
    )
    def test_warnings_that_contradict_the_value_or_each_other_are_named(self, warning: int, value: int) -> None:
        record = cgm.Record(glucose=Number(value), offset_min=0, warning=warning)
        assert glucose(record).reasons == Reason.CONTRADICTION

    @pytest.mark.parametrize(("warning", "trend"), [(0x10, 1), (0x20, -1)])
    def test_an_alarm_of_rate_against_the_trend_is_a_contradiction(self, warning: int, trend: int) -> None:
        for change, reason in ((trend, Reason.CONTRADICTION), (-trend, Reason.NONE)):
            record = cgm.Record(glucose=Number(104), offset_min=0, warning=warning, trend=Number(change))
            readings = record.readings(device=DEVICE, time_ms=1)
            assert [each.reasons for each in readings] == [reason, reason]

    @pytest.mark.parametrize(("warning", "value"), [(0x05, 52), (0x0A, 301), (0x01, 90), (0x20, 104)])
    def test_warnings_that_agree_are_no_contradiction(self, warning: int, value: int) -> None:
        record = cgm.Record(glucose=Number(value), offset_min=0, warning=warning)
        assert glucose(record).reasons == Reason.NONE

    @pytest.mark.parametrize("special", Special)
    def test_a_special_value_is_none_and_says_which(self, special: Special) -> None:
        reading = glucose(cgm.Record(glucose=Number(None, 0, special), offset_min=0))
        assert reading.mantissa is None
        assert reading.reasons & Reason.NO_VALUE
        assert dict(reading.extras)[Extra.SPECIAL] == special.value

    def test_no_value_while_a_calibration_is_pending_is_not_ready(self) -> None:
        record = cgm.Record(glucose=Number(None, 0, Special.NAN), offset_min=0, cal_temp=0x40)
        assert glucose(record).reasons & Reason.NOT_READY


class TestSession:
    START = bytes.fromhex("EA 07 0B 17 0A 1E 00 04 04")

    def test_the_feature_tells_whether_values_carry_a_crc(self) -> None:
        with_it = cgm.Feature.decode(with_crc(bytes.fromhex("00 10 00 59")))
        assert with_it.e2e_crc
        assert with_it.fields() == {"features": 0x1000, "type": 9, "location": 5, "crc": with_it.crc}
        assert not cgm.Feature.decode(bytes.fromhex("01 00 00 59 FF FF")).e2e_crc

    @pytest.mark.parametrize("value", ["", "00", "00 10 00 59", "00 10 00 59 00 00", "00 00 00 59 FF", "00" * 7])
    def test_a_feature_of_wrong_length_or_crc_is_refused(self, value: str) -> None:
        with pytest.raises(DecodeError):
            cgm.Feature.decode(bytes.fromhex(value))

    def test_the_start_is_an_instant_if_zone_and_daylight_saving_are_known(self) -> None:
        start = cgm.SessionStart.decode(self.START)
        assert start.moment == datetime(2026, 11, 23, 10, 30, tzinfo=timezone(timedelta(hours=2)))
        assert start.fields() == {"start": "2026-11-23T10:30:00", "time_zone": 4, "dst": 4, "utc_offset_min": 120}

    @pytest.mark.parametrize(
        "value",
        ["EA 07 0B 17 0A 1E 00 80 04", "EA 07 0B 17 0A 1E 00 04 FF", "00 00 00 00 00 00 00 04 04"],
        ids=["zone unknown", "daylight saving unknown", "no date"],
    )
    def test_the_start_is_no_instant_otherwise(self, value: str) -> None:
        assert cgm.SessionStart.decode(bytes.fromhex(value)).moment is None

    @pytest.mark.parametrize(
        "value",
        [
            "EA 07 0B 17 0A 1E 00 39 00",
            "EA 07 0B 17 0A 1E 00 CF 00",
            "EA 07 0B 17 0A 1E 00 04 01",
            "EA 07 02 1D 0A 1E 00 04 00",
            "EA 07 0B 17 18 1E 00 04 00",
            "EA 07 0B 17 0A 1E 3C 04 00",
            "2D 06 0B 17 0A 1E 00 04 00",
        ],
    )
    def test_what_no_calendar_or_table_has_is_refused(self, value: str) -> None:
        with pytest.raises(DecodeError):
            cgm.SessionStart.decode(bytes.fromhex(value))

    def test_status_and_run_time_may_end_with_a_crc(self) -> None:
        status = cgm.Status(offset_min=300, status=1, cal_temp=2, warning=4)
        assert cgm.Status.decode(bytes.fromhex("2C 01 01 02 04")) == status
        assert cgm.Status.decode(status.encode(e2e_crc=True), e2e_crc=True) == status
        assert cgm.SessionRunTime.decode(bytes.fromhex("F0 00")).run_time_h == 240
        with pytest.raises(DecodeError):
            cgm.SessionRunTime.decode(bytes.fromhex("F0 00"), e2e_crc=True)


@given(sent=st.lists(records, min_size=1, max_size=4), e2e_crc=st.booleans())
def test_records_survive_the_wire(*, sent: list[cgm.Record], e2e_crc: bool) -> None:
    measurement = cgm.Records(records=tuple(sent))
    assert cgm.Records.decode(measurement.encode(e2e_crc=e2e_crc), e2e_crc=e2e_crc) == measurement


@given(
    sent=st.builds(cgm.Feature, features=st.integers(0, 2**24 - 1), sample_type=octet)
    | st.builds(cgm.Status, offset_min=u16, status=octet, cal_temp=octet, warning=octet)
    | st.builds(
        cgm.SessionStart,
        start=st.datetimes(min_value=datetime.fromisoformat("1582-01-01")).map(DateTime.of),
        time_zone=st.integers(-48, 56) | st.just(-128),
        dst=st.sampled_from([0, 2, 4, 8, 255]),
    )
    | st.builds(cgm.SessionRunTime, run_time_h=u16),
    e2e_crc=st.booleans(),
)
def test_what_is_read_survives_the_wire(*, sent: Measurement, e2e_crc: bool) -> None:
    assert type(sent).decode(sent.encode(e2e_crc=e2e_crc), e2e_crc=e2e_crc) == sent


@given(
    kind=st.sampled_from(list(cgm.CHARACTERISTICS.values())),
    value=st.binary(max_size=64),
    e2e_crc=st.sampled_from([None, True, False]),
)
def test_any_octets_are_a_value_or_a_declared_error(
    *, kind: type[Measurement], value: bytes, e2e_crc: bool | None
) -> None:
    try:
        measurement = kind.decode(value, e2e_crc=e2e_crc)
    except DecodeError:
        return
    assert measurement.fields()
    measurement.readings(device=DEVICE, time_ms=0)


def test_records_of_one_value_are_as_far_apart_as_their_offsets() -> None:
    records = cgm.Records.decode(bytes.fromhex("06 00 64 00 0A 00 06 00 65 00 0D 00"))
    readings = records.readings(device="d", time_ms=1_000_000)
    assert [each.time_ms for each in readings] == [1_000_000 - 3 * 60_000, 1_000_000]


def test_octets_of_a_device_that_sends_the_warning_first_can_be_put_right() -> None:
    sent = cgm.Record.decode(bytes.fromhex("08 A0 37 00 0A 00 04 01"))
    meant = sent.reversed_octets()
    assert (sent.status, sent.cal_temp, sent.warning) == (4, None, 1)
    assert (meant.status, meant.cal_temp, meant.warning) == (1, None, 4)
