"""The verdict: every emitted value is stored, explained, in the air, or lost; and the run fails if any is lost."""

from dataclasses import replace
from decimal import Decimal

from gateway.lab.verdict import Emission, Kill, Row, Verdict, judge

METER, OXIMETER, METRIC = "F0:00:00:00:00:03", "F0:00:00:00:00:02", 160184


def result(number: int, sent_ms: int = 1000) -> Emission:
    return Emission(METER, METRIC, Decimal(100 + number), sent_ms, "2026-01-01", number, linked=True, kept=True)


def pulse(sent_ms: int, *, linked: bool = True) -> Emission:
    return Emission(OXIMETER, METRIC, Decimal(97), sent_ms, None, None, linked=linked, kept=False)


def row(emission: Emission, *, late_ms: int = 5, backfilled: bool = False) -> Row:
    time_ms = emission.sent_ms + late_ms
    return Row(
        emission.device, emission.metric, emission.value, time_ms, emission.session, emission.sequence, backfilled
    )


def verdict(emissions: list[Emission], rows: list[Row], **overrides: object) -> Verdict:
    given: dict[str, object] = {
        "until_ms": 100_000,
        "kills": [],
        "outages": 1,
        "captured": 0,
        "missing_after_fsync": 0,
        "explained": 0,
        "quarantined": 0,
    }
    return judge(emissions, rows, **{**given, **overrides})  # type: ignore[arg-type] - overrides are by keyword


def test_all_stored_passes() -> None:
    sent = [result(1), result(2), pulse(1000), pulse(2000)]
    seen = verdict(sent, [row(each) for each in sent])
    assert (seen.emitted, seen.stored, seen.passed) == (4, 4, True)


def test_a_record_that_the_wearable_still_holds_is_lost() -> None:
    seen = verdict([result(1), result(2)], [row(result(1))])
    assert (seen.lost_from_stored_records, seen.passed) == (1, False)


def test_a_live_value_without_a_link_was_in_the_air() -> None:
    seen = verdict([pulse(1000), pulse(2000, linked=False)], [row(pulse(1000))])
    assert (seen.in_air, seen.passed) == (1, True)


def test_a_live_value_just_before_a_kill_was_in_the_air_and_an_earlier_one_was_not() -> None:
    sent = [pulse(1000), pulse(3000), pulse(5000)]
    kills = [Kill(at_ms=3100, exposure_ms=2000)]
    seen = verdict(sent, [row(pulse(5000))], kills=kills)
    assert (seen.in_air, seen.lost_after_fsync, seen.passed) == (1, 1, False)


def test_a_bundle_on_the_killed_gateways_disk_that_never_arrived_fails_the_run() -> None:
    seen = verdict([result(1)], [row(result(1))], missing_after_fsync=3)
    assert (seen.lost_after_fsync, seen.passed) == (3, False)


def test_what_a_signed_record_explains_is_not_lost_whoever_could_have_kept_it() -> None:
    sent = [result(1), pulse(1000), pulse(3000)]
    seen = verdict(sent, [row(pulse(3000))], explained=2)
    assert (seen.explained, seen.lost_after_fsync, seen.lost_from_stored_records, seen.passed) == (2, 0, 0, True)


def test_what_exceeds_the_explanation_is_lost_and_an_explanation_of_nothing_counts_for_nothing() -> None:
    sent = [result(1), result(2), pulse(1000), pulse(3000)]
    seen = verdict(sent, [row(pulse(3000))], explained=1)
    assert (seen.explained, seen.lost_after_fsync + seen.lost_from_stored_records, seen.passed) == (1, 2, False)
    assert verdict(sent, [row(each) for each in sent], explained=7).explained == 0


def test_a_live_value_is_known_by_its_moment_also_while_the_gateways_clock_was_wrong() -> None:
    sent = [pulse(1000), pulse(3000)]
    rows = [row(pulse(1000)), row(pulse(3000), late_ms=3_600_005)]
    assert verdict(sent, rows, clock_offsets_ms=[0, 3_600_000]).passed
    assert verdict(sent, rows).unverified == 1


def test_a_row_that_comes_twice_is_a_duplicate() -> None:
    for sent in (result(1), pulse(1000)):
        seen = verdict([sent], [row(sent), row(sent, late_ms=6)])
        assert (seen.duplicates, seen.passed) == (1, False)


def test_a_row_that_nobody_sent_is_unverified() -> None:
    altered = replace(row(result(1)), value=Decimal(99))
    seen = verdict([result(1)], [altered])
    assert (seen.unverified, seen.lost_from_stored_records, seen.passed) == (1, 1, False)


def test_a_quarantined_bundle_fails_the_run() -> None:
    assert not verdict([result(1)], [row(result(1))], quarantined=1).passed


def test_what_is_sent_after_the_end_is_known_but_not_demanded() -> None:
    late = pulse(200_000)
    assert verdict([result(1), late], [row(result(1))]).passed
    assert verdict([result(1), late], [row(result(1)), row(late)]).unverified == 0


def test_an_empty_run_does_not_pass() -> None:
    assert not verdict([], []).passed


def test_the_numbers_add_up() -> None:
    sent = [result(1), result(2), pulse(1000), pulse(2000, linked=False), pulse(3000)]
    seen = verdict(sent, [row(result(1)), row(pulse(1000))])
    lost = seen.lost_after_fsync + seen.lost_from_stored_records
    assert seen.emitted == seen.stored + seen.explained + seen.in_air + lost
