"""The outbox against a model, on a disk that fails at every operation and crashes at any time.

What a sync has confirmed is held, byte for byte, or receipted, or a hole tells of it whose own bundle is held or
receipted. Nothing else is required, and nothing less.
"""

import asyncio
import errno
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import OutboxError, OutboxFullError, OutboxWriteError
from gateway.model import Cursor, Hole, Lane, Link, Receipt, ReceiptRange, SealedBundle, StoreId, StreamSpan
from gateway.outbox.outbox import Outbox

from .simulated import FAILING, SimulatedDisk

DIRECTORY = Path("/outbox")
DEVICE = "F0:00:00:00:00:01"
STREAM = b"s" * 16
SEGMENT_BYTES = 1 << 20
CAPACITY_BYTES = 8 << 20

lanes = st.sampled_from(list(Lane))


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.disk = SimulatedDisk()
        self.random = Random(0)
        self.data: dict[Link, bytes] = {}
        self.in_flight: dict[Lane, list[Link]] = {lane: [] for lane in Lane}
        self.confirmed: dict[Lane, list[Link]] = {lane: [] for lane in Lane}
        self.receipted: set[Link] = set()
        self.told: dict[Link, Sequence[Hole]] = {}
        self.cursors: dict[Link, int] = {}
        self.receipts = count()
        self.torn = 0
        """Bundles that never were confirmed, of which a crash left one that came after them."""
        self.outbox: Outbox | None = None

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.random.seed(seed)
        self.disk.random.seed(seed)
        self.start()

    def start(self) -> None:
        async def open_outbox() -> Outbox:
            return Outbox.open(
                DIRECTORY, gateway="gw", segment_bytes=SEGMENT_BYTES, capacity_bytes=CAPACITY_BYTES, files=self.disk
            )

        try:
            self.outbox = self.loop.run_until_complete(open_outbox())
        except OutboxError:
            self.disk.failures.clear()
            self.outbox = self.loop.run_until_complete(open_outbox())
        self.chains = {lane: (self.random.randbytes(16), count()) for lane in Lane}
        for lane in Lane:
            self.check_head(lane)

    def check_head(self, lane: Lane) -> None:
        """After a start the head is the last confirmed bundle, or one that was in flight behind it."""
        assert self.outbox is not None
        head, confirmed, flying = self.outbox.head(lane), self.confirmed[lane], self.in_flight[lane]
        assert head in [*confirmed[-1:], *flying] or (head is None and not confirmed), lane
        held = {stored.link for stored in self.outbox.unreceipted(-1, 100_000, lane)}
        kept = [link for link in flying if link in held]
        assert head == [*confirmed, *kept, None][-2 if confirmed or kept else -1]
        self.torn += (flying.index(head) + 1 if head in flying else 0) - len(kept)
        confirmed += kept
        self.in_flight[lane] = []

    def run(self, work: Any) -> bool:
        """Do something that the disk may refuse; whether it worked."""
        try:
            self.loop.run_until_complete(work)
        except (OutboxWriteError, OutboxFullError):
            return False
        finally:
            for lane in Lane:
                self.confirm(lane)
        return True

    def seal(self, lane: Lane, size: int) -> SealedBundle:
        chain, numbers = self.chains[lane]
        data = self.random.randbytes(size)
        link = Link(chain, next(numbers), hashlib.sha256(data).digest())
        self.data[link] = data
        span = StreamSpan(STREAM, link.no, 1, 0, 0)
        return SealedBundle(link, data, (span,), opens_epoch=self.random.random() < 0.2)

    def append(self, lane: Lane, size: int, told: Sequence[Hole] = ()) -> bool:
        assert self.outbox is not None
        if not self.outbox.fits(lane) and not self.roll(lane):
            return False
        if not self.outbox.fits(lane):  # what was in flight filled the new segment
            return False
        bundle = self.seal(lane, size)
        cursors = [Cursor(DEVICE, "one", len(self.data))] if lane is Lane.DATA else []
        self.outbox.append(bundle, cursors, told, lane=lane)
        self.in_flight[lane].append(bundle.link)
        self.cursors[bundle.link] = len(self.data)
        self.told[bundle.link] = told
        return True

    def confirm(self, lane: Lane) -> None:
        """Take note of what the outbox itself calls durable."""
        assert self.outbox is not None
        head, flying = self.outbox.head(lane), self.in_flight[lane]
        if head in flying:
            until = flying.index(head) + 1
            self.confirmed[lane] += flying[:until]
            self.in_flight[lane] = flying[until:]

    @rule(lane=lanes, size=st.integers(1, 60_000))
    def append_one(self, lane: Lane, size: int) -> None:
        self.append(lane, size)

    @rule(lane=lanes, bundles=st.integers(1, 20))
    def fill(self, lane: Lane, bundles: int) -> None:
        for _ in range(bundles):
            self.append(lane, 60_000)
        self.sync(lane)

    @rule(lane=lanes)
    def sync_one(self, lane: Lane) -> None:
        self.sync(lane)

    def sync(self, lane: Lane) -> bool:
        assert self.outbox is not None
        done = self.run(self.outbox.sync(lane))
        assert not done or not self.in_flight[lane]
        return done

    @rule(lane=lanes)
    def roll_one(self, lane: Lane) -> None:
        self.roll(lane)

    def roll(self, lane: Lane) -> bool:
        """A roll makes everything durable that has its place; what a failed segment lost still waits for a sync."""
        assert self.outbox is not None
        return self.run(self.outbox.roll(lane)) and self.sync(lane)

    @rule()
    def make_room(self) -> None:
        """As the pipeline does: tell durably, then conclude."""
        assert self.outbox is not None
        for _ in range(20):
            try:
                tale = self.loop.run_until_complete(self.outbox.tale())
            except OutboxWriteError:
                return
            if tale is None or not self.append(Lane.DATA, 100, tale.holes) or not self.sync(Lane.DATA):
                return
            self.outbox.conclude(tale)

    @rule(lane=lanes, share=st.floats(0, 1))
    def receipt(self, lane: Lane, share: float) -> None:
        assert self.outbox is not None
        waiting = self.outbox.unreceipted(-1, 10_000, lane)
        covered = waiting[: int(share * len(waiting) + 0.5)]
        ranges = tuple(ReceiptRange(each.link.chain, each.link.no, each.link.no, each.link.hash) for each in covered)
        applied = self.outbox.apply(Receipt("gw", StoreId(b"store", 1), next(self.receipts), ranges, (), 0))
        assert applied.bundles == len(covered)
        self.receipted.update(each.link for each in covered)

    @rule(operation=st.sampled_from(FAILING), after=st.integers(0, 4), code=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def fail(self, operation: str, after: int, code: int) -> None:
        self.disk.failures[operation] = after, code

    @rule(free=st.sampled_from([2 << 20, 6 << 20, 1 << 40]))
    def fill_the_disk_up_to(self, free: int) -> None:
        self.disk.free = free + sum(map(self.disk.size, self.disk.names(DIRECTORY, "")))

    @rule(
        lane=lanes, bundles=st.integers(1, 5), size=st.integers(1, 20_000), operation=st.sampled_from(["write", "sync"])
    )
    def crash_within_a_sync(self, lane: Lane, bundles: int, size: int, operation: str) -> None:
        """The power fails while several bundles are on their way: any of their pages may have arrived."""
        self.disk.failures.clear()
        for _ in range(bundles):
            self.append(lane, size)
        self.disk.failures[operation] = 0, 0
        self.sync(lane)
        self.crash()

    @rule()
    def crash(self) -> None:
        assert self.outbox is not None
        self.outbox._disk.close()
        self.disk.crash()
        self.start()

    @rule()
    def restart(self) -> None:
        assert self.outbox is not None
        with suppress(OSError):
            self.outbox.close()
        self.start()

    @precondition(lambda self: self.outbox is not None)
    @invariant()
    def what_was_confirmed_is_held_or_receipted_or_told(self) -> None:
        assert self.outbox is not None
        held = {lane: self.outbox.unreceipted(-1, 100_000, lane) for lane in Lane}
        for stored in held.values():
            assert [each.position for each in stored] == sorted({each.position for each in stored})
            for each in stored:
                assert self.outbox.load(each) == self.data[each.link]
        alive = {each.link for stored in held.values() for each in stored} | self.receipted
        holes = [hole for link in alive for hole in self.told.get(link, ())]
        for lane in Lane:
            for link in self.confirmed[lane]:
                told = any(hole.chain == link.chain and hole.first <= link.no <= hole.last for hole in holes)
                assert link in alive or told, (lane, link.no)

    @precondition(lambda self: self.outbox is not None)
    @invariant()
    def cursors_are_those_of_the_last_bundle_confirmed(self) -> None:
        assert self.outbox is not None
        if self.confirmed[Lane.DATA]:
            assert self.outbox.cursors[DEVICE].sequence == self.cursors[self.confirmed[Lane.DATA][-1]]
        assert self.outbox.stats().missing <= self.torn

    def teardown(self) -> None:
        if self.outbox is not None:
            self.disk.failures.clear()
            self.outbox.close()
        self.loop.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
