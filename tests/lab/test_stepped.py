"""A process whose wall clock is wrong by what a file says; nobody else's is, and no other clock."""

import subprocess
import sys
import time
from pathlib import Path

from gateway.lab.stepped import write_offset

SHOWS = """
import sys, time
for _ in sys.stdin:
    print(time.time_ns(), int(time.time() * 1e9), time.clock_gettime_ns(time.CLOCK_BOOTTIME), *sys.argv[1:], flush=True)
"""
HOUR_NS = 3_600_000_000_000
CLOSE_NS = 60_000_000_000


def test_the_wall_clock_follows_the_file_at_once_and_the_boot_clock_does_not(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text(SHOWS)
    file = tmp_path / "clock"
    write_offset(file, 0)
    command = [sys.executable, "-m", "gateway.lab.stepped", str(file), "shows", "an argument"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        for offset_ns in (0, 5 * HOUR_NS, -HOUR_NS):
            write_offset(file, offset_ns)
            process.stdin.write("now\n")
            process.stdin.flush()
            wall_ns, seconds_ns, boot_ns, *arguments = process.stdout.readline().split(" ", 3)
            assert abs(int(wall_ns) - time.time_ns() - offset_ns) < CLOSE_NS
            assert abs(int(seconds_ns) - int(wall_ns)) < CLOSE_NS
            assert abs(int(boot_ns) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < CLOSE_NS
            assert arguments == ["an argument\n"]
        process.stdin.close()
