"""Each reading gets the quality that its reasons demand; the value itself stays what it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.health import cgm
from gateway.health.metrics import GLUCOSE, GLUCOSE_CAPILLARY, METRICS, PULSE_RATE, SPO2, Limits
from gateway.health.quality import Assessor, quality_of, urgent
from gateway.health.reading import in_order
from gateway.health.sfloat import Number
from gateway.model import Extra, ExtraValue, Quality, Reading, Reason, Record

DEVICE = "F0:00:00:00:01:01"
MINUTE_MS = 60_000


def reading(
    metric: int, mantissa: int | None, exponent: int = 0, *, time_ms: int = 0, reasons: Reason = Reason.NONE
) -> Reading:
    return Reading(DEVICE, metric, mantissa, exponent, time_ms, reasons)


def reasons(record: Record) -> Reason:
    found = dict(record.extras).get(Extra.REASONS, 0)
    assert isinstance(found, int)
    return Reason(found)


@pytest.mark.parametrize(
    ("reason", "quality"),
    [
        (Reason.NONE, Quality.GOOD),
        (Reason.BATTERY_LOW, Quality.GOOD),
        (Reason.STORED, Quality.GOOD),
        (Reason.ANOMALY, Quality.GOOD),
        (Reason.CLOCK_WRONG, Quality.GOOD),
        (Reason.OUT_OF_RANGE, Quality.DOUBTFUL),
        (Reason.RATE_OF_CHANGE, Quality.DOUBTFUL),
        (Reason.SIGNAL, Quality.DOUBTFUL),
        (Reason.CALIBRATION, Quality.DOUBTFUL),
        (Reason.TIME_DOUBTFUL, Quality.DOUBTFUL),
        (Reason.DEVICE_DOUBTS, Quality.DOUBTFUL),
        (Reason.CONTRADICTION, Quality.DOUBTFUL),
        (Reason.UNIT_MISTAKE, Quality.DOUBTFUL),
        (Reason.NO_VALUE, Quality.VOID),
        (Reason.IMPLAUSIBLE, Quality.VOID),
        (Reason.SENSOR_FAULT, Quality.VOID),
        (Reason.NOT_READY, Quality.VOID),
        (Reason.CONTROL_SOLUTION, Quality.NOT_PATIENT),
        (Reason.DEMO_DATA, Quality.NOT_PATIENT),
        (Reason.TEST_DATA, Quality.NOT_PATIENT),
    ],
)
def test_every_reason_has_its_quality(reason: Reason, quality: Quality) -> None:
    assert quality_of(reason) is quality


def test_the_worst_reason_decides() -> None:
    assert quality_of(Reason.SIGNAL | Reason.NO_VALUE) is Quality.VOID
    assert quality_of(Reason.SENSOR_FAULT | Reason.DEMO_DATA) is Quality.NOT_PATIENT


@pytest.mark.parametrize(
    ("metric", "mantissa", "exponent", "expected"),
    [
        (GLUCOSE, 104, 0, Reason.NONE),
        (GLUCOSE, 40, 0, Reason.NONE),
        (GLUCOSE, 4000, -1, Reason.NONE),
        (GLUCOSE, 4, 2, Reason.NONE),
        (GLUCOSE, 4001, -1, Reason.OUT_OF_RANGE),
        (GLUCOSE, 39, 0, Reason.OUT_OF_RANGE),
        (GLUCOSE, 0, 0, Reason.IMPLAUSIBLE),
        (GLUCOSE, -5, 0, Reason.IMPLAUSIBLE),
        (GLUCOSE_CAPILLARY, 1501, 0, Reason.IMPLAUSIBLE | Reason.UNIT_MISTAKE),
        (GLUCOSE_CAPILLARY, 610, 0, Reason.OUT_OF_RANGE | Reason.UNIT_MISTAKE),
        (SPO2, 100, 0, Reason.NONE),
        (SPO2, 69, 0, Reason.OUT_OF_RANGE),
        (SPO2, 101, 0, Reason.IMPLAUSIBLE),
        (PULSE_RATE, 0, 0, Reason.IMPLAUSIBLE),
        (PULSE_RATE, 24, 0, Reason.OUT_OF_RANGE),
    ],
)
def test_limits_of_the_table_hold_to_the_digit(metric: int, mantissa: int, exponent: int, expected: Reason) -> None:
    assert reasons(Assessor().assess(reading(metric, mantissa, exponent))) == expected


@pytest.mark.parametrize(("mantissa", "exponent"), [(58, -1), (104, -5), (104, -3), (104_000, 0), (104, 5)])
def test_glucose_told_in_another_unit_is_named_as_such(mantissa: int, exponent: int) -> None:
    record = Assessor().assess(reading(GLUCOSE_CAPILLARY, mantissa, exponent))
    assert reasons(record) & Reason.UNIT_MISTAKE
    assert record.quality is not Quality.GOOD


def test_a_missing_value_is_void_and_says_so() -> None:
    record = Assessor().assess(reading(SPO2, None))
    assert (record.quality, reasons(record)) == (Quality.VOID, Reason.NO_VALUE)


def test_a_monitor_that_jumps_is_doubted_and_a_meter_is_not() -> None:
    assessor = Assessor()
    assessor.assess(reading(GLUCOSE, 100))
    assert reasons(assessor.assess(reading(GLUCOSE, 150, time_ms=5 * MINUTE_MS))) == Reason.NONE
    assert reasons(assessor.assess(reading(GLUCOSE, 201, time_ms=10 * MINUTE_MS))) == Reason.RATE_OF_CHANGE
    assessor.assess(reading(GLUCOSE_CAPILLARY, 100))
    assert reasons(assessor.assess(reading(GLUCOSE_CAPILLARY, 300, time_ms=MINUTE_MS))) == Reason.NONE


def test_a_change_over_a_long_silence_is_believed() -> None:
    assessor = Assessor()
    assessor.assess(reading(GLUCOSE, 60))
    assert assessor.assess(reading(GLUCOSE, 300, time_ms=20 * MINUTE_MS)).quality is Quality.GOOD


def test_what_is_void_is_no_measure_for_the_next_value() -> None:
    assessor = Assessor()
    assessor.assess(reading(GLUCOSE, 100))
    assessor.assess(reading(GLUCOSE, 300, time_ms=MINUTE_MS, reasons=Reason.SENSOR_FAULT))
    assert assessor.assess(reading(GLUCOSE, 102, time_ms=2 * MINUTE_MS)).quality is Quality.GOOD


def test_limits_can_be_replaced_by_metric() -> None:
    assessor = Assessor({SPO2: Limits(flag_below=90)})
    assert assessor.assess(reading(SPO2, 89)).quality is Quality.DOUBTFUL
    assert assessor.assess(reading(GLUCOSE, 104)).quality is Quality.GOOD


def test_a_metric_without_limits_is_judged_by_the_device_alone() -> None:
    assert Assessor().assess(reading(1, 10**9)).quality is Quality.GOOD


@given(
    st.sampled_from(sorted(METRICS)),
    st.none() | st.integers(-(2**23), 2**23),
    st.integers(-128, 132),
    st.builds(Reason, st.integers(0, 2**19 - 1)),
)
def test_no_judgement_changes_a_value(metric: int, mantissa: int | None, exponent: int, given_reasons: Reason) -> None:
    before = Reading(DEVICE, metric, mantissa, exponent, 5, given_reasons, ((int(Extra.SEQUENCE), 7),))
    record = Assessor().assess(before)
    assert (record.device, record.metric, record.time_ms) == (before.device, before.metric, before.time_ms)
    assert (record.mantissa, record.exponent) == (mantissa, exponent)
    assert reasons(record) & given_reasons == given_reasons
    assert dict(record.extras)[Extra.SEQUENCE] == 7
    assert list(record.extras) == sorted(record.extras)


class TestUrgent:
    """Bits of the status: 16 below the patient's low level, 17 above the high one, 18 hypo, 19 hyper, 20 falling,
    21 rising, 22 below the device's range, 23 above it."""

    @staticmethod
    def record(value: int | None, bit: int, *, quality: Quality = Quality.GOOD, **more: ExtraValue) -> Record:
        extras = {Extra.STATUS: 1 << bit} | {Extra[name]: extra for name, extra in more.items()}
        return Record(DEVICE, GLUCOSE, value, 0, 0, quality, in_order(extras))

    @pytest.mark.parametrize(
        ("value", "bit"),
        [(100, 16), (52, 18), (39, 22), (120, 17), (300, 19), (401, 23), (130, 20), (130, 21)],
    )
    def test_a_monitors_alarm_is_if_the_value_agrees(self, value: int, bit: int) -> None:
        assert urgent(self.record(value, bit))
        assert urgent(self.record(value, bit, quality=Quality.DOUBTFUL))

    @pytest.mark.parametrize(("value", "bit"), [(101, 16), (101, 18), (101, 22), (119, 17), (119, 19), (119, 23)])
    def test_an_alarm_is_not_where_the_value_does_not_agree(self, value: int, bit: int) -> None:
        assert not urgent(self.record(value, bit))

    @pytest.mark.parametrize("bit", [0, 1, 5, 8, 11, 15])
    def test_a_value_is_not_without_an_alarm(self, bit: int) -> None:
        assert not urgent(self.record(30, bit))
        assert not urgent(Record(DEVICE, GLUCOSE, 30, 0, 0))

    def test_what_is_void_no_patients_contradicted_or_from_a_store_is_not(self) -> None:
        for quality in (Quality.VOID, Quality.NOT_PATIENT):
            assert not urgent(self.record(52, 18, quality=quality))
        assert not urgent(self.record(52, 18, BACKFILLED=1))
        for reason in (Reason.STORED, Reason.CONTRADICTION):
            assert not urgent(self.record(52, 18, REASONS=int(reason)))

    def test_another_metric_is_not(self) -> None:
        assert not urgent(Record(DEVICE, SPO2, 85, 0, 0, Quality.GOOD, ((int(Extra.STATUS), 1 << 18),)))

    @pytest.mark.parametrize(
        ("special", "bit", "expected"),
        [("-INF", 22, True), ("-INF", 18, True), ("+INF", 23, True), ("-INF", 17, False), ("NaN", 22, False)],
    )
    def test_a_value_beyond_the_devices_range_is_if_the_alarm_is_for_that_side(
        self, special: str, bit: int, *, expected: bool
    ) -> None:
        beyond = self.record(None, bit, quality=Quality.VOID, SPECIAL=special, REASONS=int(Reason.NO_VALUE))
        assert urgent(beyond) is expected
        faulty = self.record(None, bit, quality=Quality.VOID, SPECIAL=special, REASONS=int(Reason.SENSOR_FAULT))
        assert not urgent(faulty)

    def test_what_a_monitor_sends_is_judged_so(self) -> None:
        falling = cgm.Record(glucose=Number(65), offset_min=1, warning=1 << 2, trend=Number(-2))
        [glucose, trend] = map(Assessor().assess, falling.readings(device=DEVICE, time_ms=0))
        assert urgent(glucose)
        assert not urgent(trend)
