"""What a person sees: colour where it helps, columns that fit, text from the air made harmless, progress.

Colour says nothing that the words do not. None goes to a pipe, to `TERM=dumb`, or where NO_COLOR is set
(no-color.org).
"""

import asyncio
import os
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import TextIO

_PROGRESS_S = 0.5
_LEAST_COLUMNS = 40
_BAR = 24


class Style(Enum):
    """SGR parameters (ECMA-48)."""

    GREEN = "32"
    AMBER = "33"
    RED = "1;31"
    STRONG = "1"
    FAINT = "2"


def moves(stream: TextIO) -> bool:
    """Whether what stands on `stream` can be overwritten."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


def styled(text: str, style: Style, stream: TextIO | None = None) -> str:
    """`text` in that style, where `stream` (standard output) shows any."""
    if os.environ.get("NO_COLOR") or not moves(stream or sys.stdout):
        return text
    return f"\033[{style.value}m{text}\033[0m"


def columns() -> int:
    """How wide a line may be: the terminal, or 80 columns."""
    return max(_LEAST_COLUMNS, shutil.get_terminal_size((80, 24)).columns)


def plain(text: str) -> str:
    """`text` from the air, without what could steer a terminal or turn its writing around."""
    return "".join(character if character.isprintable() else "?" for character in text)


def width(text: str) -> int:
    """How many columns `text` takes."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, most: int) -> str:
    """`text` in at most so many columns, its end cut off if it must be."""
    if width(text) <= most:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > most - 1:
            break
        kept += character
    return kept + "~"


def pad(text: str, to: int) -> str:
    """`text` and spaces."""
    return text + " " * (to - width(text))


Cell = str | tuple[str, Style]


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, flexible: int) -> Iterator[str]:
    """Lines of a table that fits the terminal: the column `flexible` is cut where there is no room for it."""
    texts = [[plain(cell if isinstance(cell, str) else cell[0]) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(head, *texts, strict=True)]
    room = columns() - (sum(widths) - widths[flexible]) - 2 * (len(head) - 1)
    widths[flexible] = max(min(widths[flexible], room), len(head[flexible]))
    yield styled(_line([*head], widths), Style.STRONG)
    for row, words in zip(rows, texts, strict=True):
        cells = [pad(fit(word, size), size) for word, size in zip(words, widths, strict=True)]
        cells = [
            cell if isinstance(given, str) else styled(cell, given[1]) for cell, given in zip(cells, row, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(pad(fit(word, size), size) for word, size in zip(words, widths, strict=True)).rstrip()


def wrapped(text: str, *, indent: int) -> str:
    """`text` over several lines, each begun with so many spaces."""
    space = " " * indent
    return "\n".join(
        textwrap.wrap(text, columns(), initial_indent=space, subsequent_indent=space, break_on_hyphens=False)
    )


@asynccontextmanager
async def progress(what: str, seconds: float) -> AsyncIterator[None]:
    """Show on standard error, while entered, how much of `seconds` has passed."""
    if not moves(sys.stderr):
        print(f"{what} ({seconds:g} s)", file=sys.stderr)
        yield
        return
    drawing = asyncio.create_task(_draw(what, seconds))
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.wait([drawing])
        print("\r\033[K", end="", file=sys.stderr, flush=True)


async def _draw(what: str, seconds: float) -> None:
    began = time.monotonic()
    while True:
        passed = min(1.0, (time.monotonic() - began) / seconds)
        bar = ("#" * round(passed * _BAR)).ljust(_BAR, ".")
        line = fit(f"{what} [{bar}] {seconds * (1 - passed):.0f} s", columns() - 1)
        print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(_PROGRESS_S)
