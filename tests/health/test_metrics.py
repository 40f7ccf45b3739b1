"""The table of metrics, and the page that shows it."""

from pathlib import Path

import pytest

from gateway.health.metrics import METRICS, PRIVATE, Metric

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
