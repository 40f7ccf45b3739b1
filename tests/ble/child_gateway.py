"""A gateway in a process of its own, to be killed: its Bluetooth side, and a file in place of the outbox.

Each line of the file is what one call of the sink brought, readings and cursor together, on the disk before it returns.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.ble.bluetooth import Bluetooth
from gateway.ble.inventory import Inventory
from gateway.ble.setup import Setup
from gateway.clock.book import ClockBook
from gateway.clock.system import Clock
from gateway.config import BleSection
from gateway.lab.radio import VirtualRadio
from gateway.model import Cursor, Extra, Reading


def read(journal: Path) -> list[dict]:
    """What is durable; a last line that a kill cut off is not."""
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().split("\n")[:-1]]


async def main(state: Path, socket: Path) -> None:
    journal = state / "journal.jsonl"
    lines = read(journal)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cursors = {line["cursor"][0]: Cursor(*line["cursor"]) for line in lines if line["cursor"]}
    file = journal.open("a")

    def write(line: dict) -> None:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fdatasync(file.fileno())

    def sink(stream: bytes, readings: Sequence[Reading], cursor: Cursor | None) -> None:
        records = [[r.device, dict(r.extras).get(Extra.SESSION), dict(r.extras).get(Extra.SEQUENCE)] for r in readings]
        write(
            {
                "stream": stream.hex(),
                "records": records,
                "cursor": [cursor.device, cursor.session, cursor.sequence] if cursor else None,
            }
        )

    radio = VirtualRadio(socket, state / "bonds.json")
    config = BleSection(adapter=f"virtual:{socket}", connect_timeout_s=2.0, retry_max_s=0.3, racp_timeout_s=5.0)
    bluetooth = Bluetooth(
        Setup(
            radio=radio,
            inventory=Inventory.load(state / "devices.json"),
            config=config,
            cursors=cursors,
            sink=sink,
            on_event=lambda *event: write({"event": event[0], "records": [], "cursor": None}),
            on_error=lambda error: write({"error": str(error), "records": [], "cursor": None}),
            clock=Clock.start("system", not_before_ms=0),
            book=ClockBook.load(state / "clocks.json"),
        )
    )
    await bluetooth.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
