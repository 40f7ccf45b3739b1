"""The vectors of refused bundles and of the key list are right, and a change in them is noticed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SealError
from gateway.receiver import vectors

SHIPPED = Path(__file__).parents[2] / "docs" / "vectors"
FORMAT = SHIPPED.parent / "format.md"


def document(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SHIPPED / name).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", vectors.FILES)
def test_the_shipped_vectors_are_right(name: str) -> None:
    vectors.check(SHIPPED / name)


@pytest.mark.parametrize("name", vectors.FILES)
def test_new_vectors_are_right(name: str, tmp_path: Path) -> None:
    vectors.write(tmp_path / name)
    vectors.check(tmp_path / name)


def test_every_cause_of_the_document_is_shown() -> None:
    steps = FORMAT.read_text(encoding="utf-8").split("| step | fails as |")[1].split("\n\n")[0]
    documented = {row.split("|")[2].split("`")[1] for row in steps.splitlines()[2:]}
    assert {case["cause"] for case in document("refused.json")["refused"]} == documented


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("keys.json", lambda d: d.update(serial=8)),
    ("keys.json", lambda d: d.update(key_list=d["key_list"][:-2] + "00")),
    ("keys.json", lambda d: d.pop("receivers")),
    ("refused.json", lambda d: d.update(signer_alg=-7)),
    ("refused.json", lambda d: d["refused"].pop()),
    ("refused.json", lambda d: d["refused"][0].update(cause="signer")),
    ("refused.json", lambda d: d["refused"][0].update(bundle=d["refused"][0]["bundle"][:-2])),
    ("refused.json", lambda d: d["refused"][-1].update(before=["80"])),
    ("refused.json", lambda d: d["refused"][0].update(bundle=None)),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_a_changed_file_is_noticed(name: str, change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    content = document(name)
    change(content)
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SealError, match=name):
        vectors.check(tmp_path / name)


def test_a_file_that_is_not_there_is_a_declared_error(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="cannot be read"):
        vectors.check(tmp_path / "keys.json")
