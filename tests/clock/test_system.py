"""The system's own clocks, as Linux shows them."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import system
from gateway.clock.keeper import BOOT_ENDS_MS, Sample
from gateway.clock.system import Clock, SystemClocks, boot_clock_ms, boot_id, sample, wall_clock_ms


def test_a_sample_shows_all_clocks_at_one_moment() -> None:
    before_ms, shown, after_ms = boot_clock_ms(), sample(), boot_clock_ms()
    assert before_ms <= shown.boot_ms <= after_ms
    assert abs(shown.wall_ms - wall_clock_ms()) < 60_000
    assert shown.error_ms is None or shown.error_ms > 0


def test_a_boot_has_one_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 16


def test_a_clock_that_is_vouched_for_shows_utc_after_the_first_look() -> None:
    clock = Clock.start("system", not_before_ms=0)
    assert clock.now_ms() < BOOT_ENDS_MS
    assert clock.event("start").boot == boot_id()
    [anchor] = clock.look()
    assert anchor.details[0] == boot_id()
    assert abs(clock.now_ms() - wall_clock_ms()) < 60_000
    assert clock.event("start").boot is None
    assert clock.error_ms() == 1024


def test_an_age_is_told_across_the_moment_when_the_clock_becomes_known() -> None:
    shown = Sample(boot_ms=60_000, wall_ms=1_800_000_000_000)
    clock = Clock.start(
        "auto", not_before_ms=0, clocks=SystemClocks(boot=b"b" * 16, boot_ms=lambda: 60_000, sample=lambda: shown)
    )
    assert (clock.age_s(20_000), clock.age_s(1_800_000_000_000), clock.age_s(None)) == (40.0, 0.0, 0.0)
    shown = replace(shown, error_ms=5)
    clock.look()
    assert (clock.age_s(20_000), clock.age_s(1_799_999_990_000)) == (40.0, 10.0)


def test_a_jump_that_nothing_vouches_for_shows_as_an_offset_and_moves_no_time() -> None:
    shown = Sample(boot_ms=60_000, wall_ms=1_800_000_000_000)
    clock = Clock.start(
        "auto", not_before_ms=0, clocks=SystemClocks(boot=b"b" * 16, boot_ms=lambda: 60_000, sample=lambda: shown)
    )
    assert clock.offset_ms() == 0, "unknown"
    shown = replace(shown, error_ms=5)
    clock.look()
    assert clock.offset_ms() == 0
    shown = replace(shown, wall_ms=shown.wall_ms - 30_000, error_ms=None)
    assert clock.look() == []
    assert (clock.offset_ms(), clock.now_ms()) == (-30_000, 1_800_000_000_000)


def test_where_the_kernel_may_not_be_asked_one_time_service_can_still_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system._libc, "adjtimex", lambda _timex: -1)
    monkeypatch.setattr(system, "_TIMESYNCD", tmp_path / "synchronized")
    assert sample().error_ms is None
    (tmp_path / "synchronized").touch()
    assert sample().error_ms == 1_000
