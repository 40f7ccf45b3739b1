import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from gateway.model import Link, Receipt, ReceiptRange, SealedBundle, StoreId, StreamSpan
from gateway.outbox.outbox import Outbox

SEGMENT_BYTES = 1 << 20
CAPACITY_BYTES = 8 << 20
STORE = StoreId(b"store-a", 1)


@pytest.fixture
def new_chain() -> Callable[[], Callable[..., SealedBundle]]:
    """Begin a chain; what comes back makes its bundles as the envelope would: numbered, hashed, of any size."""

    def begin() -> Callable[..., SealedBundle]:
        chain, numbers = os.urandom(16), count()

        def seal(size: int = 300, *, opens_epoch: bool = False, records: int = 1, time_ms: int = 1000) -> SealedBundle:
            data, no = os.urandom(size), next(numbers)
            link = Link(chain, no, hashlib.sha256(data).digest())
            return SealedBundle(link, data, (StreamSpan(b"s" * 16, no, records, time_ms, time_ms),), opens_epoch)

        return seal

    return begin


@pytest.fixture
def seal(new_chain: Callable[[], Callable[..., SealedBundle]]) -> Callable[..., SealedBundle]:
    """Make the next bundle of one chain."""
    return new_chain()


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    """Open the outbox of this test as a process that starts does: after another ended and `meanwhile` happened."""
    opened: list[Outbox] = []

    def open_again(
        meanwhile: Callable[[], object] = lambda: None,
        *,
        gateway: str = "gw",
        segment_bytes: int = SEGMENT_BYTES,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> Outbox:
        if opened:
            opened.pop().close()
        meanwhile()
        opened.append(
            Outbox.open(tmp_path, gateway=gateway, segment_bytes=segment_bytes, capacity_bytes=capacity_bytes)
        )
        return opened[0]

    yield open_again
    for outbox in opened:
        outbox.close()


@pytest.fixture
def outbox(reopen: Callable[..., Outbox]) -> Outbox:
    return reopen()


@pytest.fixture
def receipt() -> Callable[..., Receipt]:
    """A receipt that covers `first`..`last.no` of the chain of `last`."""

    def make(last: Link, first: int = 0, *, counter: int = 0, store: StoreId = STORE) -> Receipt:
        return Receipt("gw", store, counter, (ReceiptRange(last.chain, first, last.no, last.hash),), (), 0)

    return make
