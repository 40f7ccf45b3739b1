"""Run a module whose wall clock is wrong by what a file says: `python -m gateway.lab.stepped FILE MODULE ARGUMENTS`.

The file holds one signed big-endian integer of 8 bytes, nanoseconds; whoever writes another steps the clock at once.
The machine's own clock is not touched, nor the clocks that nobody can set.
"""

import mmap
import runpy
import sys
import time
from pathlib import Path

_OFFSET_BYTES = 8


def write_offset(file: Path, offset_ns: int) -> None:
    """Set how far the wall clock is ahead."""
    mode = "r+b" if file.exists() else "wb"
    with file.open(mode) as opened:
        opened.write(offset_ns.to_bytes(_OFFSET_BYTES, "big", signed=True))


def main() -> None:
    """Entry point."""
    with Path(sys.argv[1]).open("rb") as file:
        offset = mmap.mmap(file.fileno(), _OFFSET_BYTES, prot=mmap.PROT_READ)
    true_ns = time.time_ns

    def time_ns() -> int:
        return true_ns() + int.from_bytes(offset[:], "big", signed=True)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    module = sys.argv[2]
    sys.argv[:] = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
