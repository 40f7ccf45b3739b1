"""Every command of ours that a page names exists, with the options given; a whole line of code can be typed."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import gateway, receiver

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
INCIDENTS = {"Stolen box", "Compromised broker", "Lost receiver key", "Rogue wearable"}
PROGRAMS = {"iomt-gateway": gateway.parser(), "iomt-receiver": receiver.parser()}
_FENCE = re.compile(r"^( *)```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"(?:^|(?<!-u)[\s(/;&|])(iomt-gateway|iomt-receiver)\s+([^`;|&#]*)")


def lines(page: Path) -> Iterator[str]:
    """Whole lines of code."""
    for _, block in _FENCE.findall(page.read_text()):
        yield from block.replace("\\\n", " ").splitlines()


def mentions(page: Path) -> Iterator[str]:
    """Code within text, which may go on in the next line."""
    for code in re.findall(r"`([^`]+)`", _FENCE.sub("", page.read_text())):
        yield " ".join(code.split())


def calls(code: str) -> Iterator[tuple[str, list[str]]]:
    """Program and arguments of each of our commands in a line."""
    for program, rest in _CALL.findall(code):
        words = shlex.split(rest.replace("'", " ").replace('"', " "))
        yield program, words


def find(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.ArgumentParser, list[str], str | None]:
    """The parser that the first words lead to, what is left, and the word that leads nowhere."""
    while words:
        groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        if not groups or words[0].startswith("-") or words[0] in {"...", "…"}:
            break
        if words[0] not in groups[0].choices:
            return parser, words, words[0]
        parser, words = groups[0].choices[words[0]], words[1:]
    return parser, words, None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists_and_has_the_options_given(page: Path) -> None:
    wrong = []
    for code in (*lines(page), *mentions(page)):
        for program, words in calls(code):
            parser, rest, nowhere = find(PROGRAMS[program], words)
            if nowhere is not None:
                wrong.append(f"{program} {' '.join(words)}: there is no {nowhere}")
            options = [word.strip("[]").partition("=")[0] for word in rest if word.strip("[").startswith("--")]
            wrong += [
                f"{program} {' '.join(words)}: has no {each}"
                for each in options
                if each not in parser._option_string_actions
            ]
    assert wrong == []


@pytest.mark.parametrize("page", ["incident.md"])
def test_each_line_of_code_can_be_typed_as_it_stands(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [call for line in lines(ROOT / "docs" / page) for call in calls(line)]
    assert len(typed) > 15
    for program, words in typed:
        try:
            PROGRAMS[program].parse_args(words)
        except SystemExit:
            pytest.fail(f"{program} {' '.join(words)}: {capsys.readouterr().err}")


def test_every_incident_has_its_page() -> None:
    text = (ROOT / "docs" / "incident.md").read_text()
    assert set(re.findall(r"^## (.*)$", text, re.MULTILINE)) == INCIDENTS


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#[^)]*)?\)", page.read_text()):
            path = (page.parent / target) if target else page
            if not path.exists():
                broken.append(f"{page.name}: {target}")
            elif anchor and path.suffix == ".md":
                heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                known = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
                if anchor[1:] not in known:
                    broken.append(f"{page.name}: {target}{anchor}")
    assert broken == []
