"""The table of metrics, and the page that shows it."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.health.metrics import GLUCOSE, GLUCOSE_CAPILLARY, METRICS, PRIVATE, Metric, limits_by_code

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"


def row(metric: Metric) -> str:
    limits = metric.limits
    cells = (
        str(metric.code),
        metric.name,
        metric.unit,
        metric.loinc or "",
        span(limits.reject_below, limits.reject_above),
        span(limits.flag_below, limits.flag_above),
        "" if limits.rate_per_min is None else f"{limits.rate_per_min:g}",
    )
    return "| " + " | ".join(cells) + " |"


def span(below: float | None, above: float | None) -> str:
    if below is None and above is None:
        return ""
    return f"{'' if below is None else f'{below:g}'} to {'' if above is None else f'{above:g}'}".strip()


def test_the_page_shows_every_metric() -> None:
    shown = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3].strip("| ").isdigit()]
    assert shown == [row(metric) for metric in sorted(METRICS.values(), key=lambda each: each.code)]


def test_names_tell_metrics_apart() -> None:
    assert len({metric.name for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_what_is_flagged_lies_within_what_is_possible(metric: Metric) -> None:
    limits = metric.limits
    if limits.flag_below is not None:
        assert limits.reject_below is None or limits.reject_below <= limits.flag_below
    if limits.flag_above is not None:
        assert limits.reject_above is None or limits.flag_above <= limits.reject_above


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_code_is_of_a_partition_for_measurements_or_private(metric: Metric) -> None:
    supervisory, disease_management = 2, 128
    assert metric.code >> 16 in {supervisory, disease_management, PRIVATE >> 16}


def test_bounds_that_are_told_replace_the_tables_and_the_others_stay() -> None:
    limits = limits_by_code({"glucose": {"flag_below": 60.0}, "capillary glucose": {"reject_above": inf}})
    assert limits[GLUCOSE] == replace(METRICS[GLUCOSE].limits, flag_below=60.0)
    assert limits[GLUCOSE_CAPILLARY] == replace(METRICS[GLUCOSE_CAPILLARY].limits, reject_above=None)
    assert set(limits) == {GLUCOSE, GLUCOSE_CAPILLARY}


def test_an_unknown_metric_is_named_with_those_it_could_have_been() -> None:
    with pytest.raises(ConfigError, match=r"quality\.limits\.'spo': there is no such metric; there is spo2"):
        limits_by_code({"spo": {"flag_below": 90.0}})


@pytest.mark.parametrize("bounds", [{"flag_below": 401.0}, {"reject_below": 50.0}, {"reject_above": 10.0}])
def test_bounds_that_exclude_each_other_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="reject_below <= flag_below <= flag_above <= reject_above"):
        limits_by_code({"glucose": bounds})
