"""How long the card, and the room on it, will last."""

import os
from pathlib import Path

import pytest

from gateway.observe.card import Card, Pace, written_bytes


def test_a_pace_is_that_of_the_last_hour() -> None:
    pace = Pace()
    for minute in range(121):
        pace.note(60.0 * minute, 600 * min(minute, 60) + 6000 * max(minute - 60, 0))
    assert pace.per_s == 100.0


def test_a_pace_is_not_judged_by_less_than_ten_seconds() -> None:
    pace = Pace()
    assert pace.per_s == 0.0
    pace.note(0.0, 0)
    pace.note(9.0, 1000)
    assert pace.per_s == 0.0


def test_room_and_card_last_as_long_as_they_are_filled_and_written() -> None:
    card = Card(endurance_tbw=1.0)
    assert (card.hours_left(1000), card.years) == (float("inf"), float("inf"))
    card.note(0.0, appended_bytes=0, written_bytes=0)
    card.note(3600.0, appended_bytes=1 << 20, written_bytes=4_000_000)
    assert card.hours_left(24 << 20) == pytest.approx(24.0)
    assert card.years == pytest.approx(1e12 / 4_000_000 / (24 * 365.25))


def test_what_is_written_is_counted(tmp_path: Path) -> None:
    before = written_bytes()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(100_000))
        os.fdatasync(file.fileno())
    assert written_bytes() - before >= 100_000
