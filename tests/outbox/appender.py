"""Writers to be killed: for each line on standard input one is forked, and tells what it did on standard output."""

import asyncio
import hashlib
import os
import random
import sys
from itertools import count
from pathlib import Path

from gateway.model import Link, Receipt, ReceiptRange, SealedBundle, StoreId, StreamSpan
from gateway.outbox.outbox import Outbox


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(directory: Path) -> None:
    outbox = Outbox.open(directory, gateway="gw", segment_bytes=1 << 20, capacity_bytes=8 << 20)
    chain, numbers = os.urandom(16), count()
    for counter in count(outbox.receipt_counter + 1):
        links = []
        for _ in range(random.randint(1, 3)):
            if not outbox.fits():
                await outbox.roll()
            data = os.urandom(random.randint(40, 65_536))
            links.append(Link(chain, next(numbers), hashlib.sha256(data).digest()))
            span = StreamSpan(b"s" * 16, links[-1].no, 1, 0, 0)
            outbox.append(SealedBundle(links[-1], data, (span,), random.random() < 0.2))
        await outbox.sync()
        for link in links:
            tell("synced", link.chain.hex(), link.no, link.hash.hex())
        waiting = outbox.unreceipted(-1, 1000)
        if len(waiting) > 40:
            tell("receipted")
            ranges = tuple(ReceiptRange(s.link.chain, s.link.no, s.link.no, s.link.hash) for s in waiting)
            outbox.apply(Receipt("gw", StoreId(b"store", 1), counter, ranges, (), 0))


for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        random.seed(os.urandom(8))
        asyncio.run(write(Path(sys.argv[1])))
    tell("forked", pid)
    os.waitpid(pid, 0)
    tell("ended")
