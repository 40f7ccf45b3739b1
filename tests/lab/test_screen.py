"""What the demo shows fits a terminal of 80 columns and says the verdict in words."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from gateway.lab import screen
from gateway.lab.verdict import Verdict

GOOD = Verdict(
    emitted=110,
    captured=104,
    stored=104,
    explained=0,
    in_air=6,
    lost_after_fsync=0,
    lost_from_stored_records=0,
    backfilled=44,
    duplicates=0,
    unverified=0,
    kills=1,
    outages=1,
)


def printed(what: object) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=80).print(what)
    return file.getvalue().splitlines()


def test_the_live_table_has_one_line_for_each_metric() -> None:
    lines = [
        screen.Line("oximeter", "capillary glucose", "109.5 mg/dL", 59.9, 12345, 12345, 12345, 12),
        screen.Line("", "spo2", "97 %", 600.0, None, None, 4, 0),
    ]
    scene = screen.Scene(elapsed_s=12.3, uplink="CUT", gateway="running", note="", lines=lines)
    shown = printed(screen.draw(scene))
    assert len(shown) == 8
    assert "12.3 s   uplink CUT   gateway running" in shown[1]
    assert "capillary glucose" in shown[4]
    assert "109.5 mg/dL" in shown[4]
    assert "10 min" in shown[5]
    assert "Backfilled from what the wearables had stored: oximeter 12" in shown[6]


def test_a_good_verdict_ends_with_the_one_sentence_that_counts() -> None:
    shown = printed(screen.tell(GOOD))
    assert "Nothing was lost." in shown[-2]
    assert all(line.endswith(("│", "╮", "╯")) for line in shown)
    assert len(shown) == 9


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"lost_after_fsync": 3}, "LOST: 3 values that were safe on the gateway."),
        ({"lost_from_stored_records": 2}, "LOST: 2 values that a wearable still holds."),
        ({"duplicates": 1}, "REPEATED: 1 values are stored twice."),
        ({"unverified": 1}, "NOT BELIEVED: 1"),
    ],
)
def test_a_bad_verdict_says_what_and_that_the_run_failed(loss: dict[str, int], words: str) -> None:
    shown = printed(screen.tell(replace(GOOD, **loss)))
    assert any(words in line for line in shown)
    assert "This run FAILED." in shown[-2]
    assert not any("Nothing was lost" in line for line in shown)
