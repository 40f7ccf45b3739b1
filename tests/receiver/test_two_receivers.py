"""Two receivers on one SQLite file: whatever each of them gets, and in whatever order, each bundle is there once."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import StoreChangedError
from gateway.model import Batch
from gateway.receiver.ingest import decide, verify
from tests.receiver.conftest import NOW_MS, RECIPIENT, Box, Cloud
from tests.receiver.test_store import CHILD

A, B = b"\x0a" * 16, b"\x0b" * 16


@pytest.fixture
def cloud(sqlite_cloud: Cloud) -> Cloud:
    return sqlite_cloud


def test_a_commit_that_rests_on_what_another_receiver_changed_is_refused(gw: Box, cloud: Cloud) -> None:
    first, second = gw.tick(), gw.tick()
    other = Cloud(cloud.directory, cloud.boxes)
    arrivals, _ = verify([first], cloud.intake.registry)
    state = cloud.store.load([each.bundle for each in arrivals])
    other.take(first, second)
    keys = {RECIPIENT.kid: RECIPIENT}
    plan = decide(arrivals, state, recipient_keys=keys, parked_limit=1, parked_per_gateway=1)
    with pytest.raises(StoreChangedError):
        cloud.store.commit(plan, now_ms=NOW_MS)
    taken = cloud.take(first)
    assert (taken.plan.redelivered, len(taken.plan.bundles)) == (1, 0)
    assert cloud.receipts(taken)["gw-1"].ranges[-1].last == 1
    other.store.close()


def test_two_processes_on_one_store_take_the_same_bundles_at_once(gw: Box, tmp_path: Path) -> None:
    messages = [gw.message(Batch(A, gw.records(4)), Batch(B, gw.records(4))) for _ in range(60)]
    directory = tmp_path / "shared"
    Cloud(directory, {"gw-1": gw}).store.close()
    children = []
    for seed in (1, 2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        children.append((child, messages[:20] + random.Random(seed).sample(messages[20:], 40)))
    for child, _ in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child, mine in children:
        assert child.stdin
        child.stdin.write("".join(f"{message.payload.hex()}\n" for message in mine))
        child.stdin.close()
    for child, _ in children:
        assert child.stdout
        assert child.stdout.read().count("committed") == 60
        child.stdout.close()
        assert child.wait() == 0
    shared, reference = Cloud(directory, {"gw-1": gw}), Cloud(tmp_path / "reference", {"gw-1": gw})
    assert shared.take(*messages).plan.redelivered == 60
    reference.take(*messages)
    assert shared.everything() == reference.everything()
    for each in (shared, reference):
        each.store.close()
