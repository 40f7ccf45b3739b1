"""docs/raspberry-pi.md says of every block of commands whether `make test-arm64` runs it."""

import re

import pytest

from ship.packages import ROOT
from tests.arm64.run import commands

PAGE = (ROOT / "docs/raspberry-pi.md").read_text()
PARTS = re.split(r"^```", PAGE, flags=re.MULTILINE)
"""Prose and blocks in turn; a block begins with its language."""


@pytest.mark.parametrize(("prose", "block"), [*zip(PARTS[::2], PARTS[1::2], strict=False)])
def test_every_block_says_whether_it_is_run(prose: str, block: str) -> None:
    said = {"sh": "*run", "text": "*not run"}[block.partition("\n")[0]]
    assert said in prose.rstrip().rpartition("\n\n")[2]


def test_what_is_said_to_be_run_is_what_is_run() -> None:
    assert list(commands(PAGE)) == [block.removeprefix("sh\n") for block in PARTS[1::2] if block.startswith("sh\n")]
