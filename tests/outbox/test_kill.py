import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from gateway.outbox.outbox import Outbox

RUNS = 40


def kill_one(writers: subprocess.Popen[str], after_s: float, owed: set[tuple[str, int, str]]) -> int:
    """Start a writer and kill it; keep in `owed` what it said to be durable and not receipted. Return how much."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write("go\n")
    writers.stdin.flush()
    synced = 0
    for line in writers.stdout:
        match line.split():
            case ["forked", pid]:
                time.sleep(after_s)
                os.kill(int(pid), signal.SIGKILL)
            case ["synced", chain, no, digest]:
                owed.add((chain, int(no), digest))
                synced += 1
            case ["receipted"]:
                owed.clear()
            case ["ended"]:
                return synced
    raise AssertionError("the writers ended")


def test_no_synced_bundle_is_lost_by_sigkill_at_random_moments(tmp_path: Path) -> None:
    owed: set[tuple[str, int, str]] = set()
    synced = 0
    command = [sys.executable, str(Path(__file__).with_name("appender.py")), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writers:
        for _ in range(RUNS):
            synced += kill_one(writers, random.uniform(0, 0.12), owed)
            outbox = Outbox.open(tmp_path, gateway="gw", segment_bytes=1 << 20, capacity_bytes=8 << 20)
            held = {}
            for stored in outbox.unreceipted(-1, 100_000):
                held[stored.link.chain.hex(), stored.link.no, stored.link.hash.hex()] = stored
                assert hashlib.sha256(outbox.load(stored)).digest() == stored.link.hash
            missing = outbox.stats().missing
            outbox.close()
            assert owed <= held.keys()
            assert missing == 0
        assert writers.stdin is not None
        writers.stdin.close()
    assert synced > RUNS
