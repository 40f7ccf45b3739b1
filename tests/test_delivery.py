"""`docs/delivery.md` gives a test for every line of the guarantee; each has to be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_line_of_the_guarantee_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    guarantee = text.partition("## Where the room goes")[0]
    lines = re.split(r"^\d+\. ", guarantee, flags=re.MULTILINE)[1:]
    assert len(lines) == 10
    for line in lines:
        found = re.search(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert found is not None, line
        path, name = found.groups()
        assert re.search(rf"^(async def|def|class) {name}\b|^{name} =", (ROOT / path).read_text(), re.MULTILINE), name
