"""Another library that decodes the same values, measured by turns with us."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench._peers import interpreter

_ROOT = Path(__file__).parents[1]


class Peer:
    """The process of `bench._decode_peer`, which decodes `values` with `library`."""

    def __init__(self, library: str, values: Mapping[str, tuple[int, str]], *, calls: int) -> None:
        self._library = library
        self._values = values
        self._calls = calls
        self.refused: dict[str, str] = {}
        """Values that the peer does not decode at all, and what it says."""

    def __enter__(self) -> Self:
        command = [str(interpreter(self._library)), "-m", "bench._decode_peer", self._library, str(self._calls)]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.refused = self._ask(self._values)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def measure(self) -> dict[str, float]:
        """One round: microseconds a value by name."""
        return self._ask("measure")

    def _ask(self, question: object) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
