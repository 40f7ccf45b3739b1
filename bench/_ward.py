"""Oximeters in their own process, which a line on standard input starts: `-m bench._ward HCI BONDS LEDGER COUNT`."""

import asyncio
import sys
from pathlib import Path

from gateway.lab.air import Air
from gateway.lab.bonds import BondStore
from gateway.lab.devices import PulseOximeter
from gateway.lab.peripheral import LedgerWriter

PER_S = 50
"""Notifications of each; a real oximeter sends one."""

_ADVERTISING_MS = 250.0


def addresses(count: int) -> list[str]:
    """Of so many wearables."""
    return [f"F0:00:00:00:02:{number:02X}" for number in range(count)]


async def main(hci: Path, bonds: Path, ledger_path: Path, count: int) -> None:
    """Serve until killed."""
    ledger, air, store = LedgerWriter(ledger_path), Air(), BondStore(bonds)
    wearables = [PulseOximeter(air.link, ledger=ledger, seed=1, address=address) for address in addresses(count)]
    for wearable in wearables:
        keys = await store.get(wearable.address)
        assert keys
        await wearable.take_bond(keys)
        wearable.device.advertising_interval_min = wearable.device.advertising_interval_max = _ADVERTISING_MS
        await wearable.start()
    await air.serve(hci)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with asyncio.TaskGroup() as group:
        for wearable in wearables:
            group.create_task(_measure(wearable))


async def _measure(wearable: PulseOximeter) -> None:
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        await wearable.measure()
        due_s += 1 / PER_S
        await asyncio.sleep(max(0.0, due_s - loop.time()))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
