"""What the virtual wearables say they sent: their own ledger, read as it grows."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.lab.verdict import Emission


class Ledger:
    """Reads a ledger's new lines; an unfinished last line is left for the next time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.emissions: list[Emission] = []

    def read(self) -> None:
        """Take what has come since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        if "values" not in line:
            return
        for metric, text in line["values"].items():
            self.emissions.append(
                Emission(
                    device=line["device"],
                    metric=int(metric),
                    value=Decimal(text),
                    sent_ms=line["sent_ms"],
                    session=line["session"],
                    sequence=line["sequence"],
                    linked=line["linked"],
                    kept=line["stored"],
                )
            )
