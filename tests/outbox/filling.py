"""Filling an outbox, and looking at what waits in it."""

from collections.abc import Callable

from gateway.model import Link, SealedBundle
from gateway.outbox.outbox import Outbox

Seal = Callable[..., SealedBundle]


def numbers(outbox: Outbox) -> list[int]:
    return [stored.link.no for stored in outbox.unreceipted(-1, 10_000)]


async def fill(outbox: Outbox, seal: Seal, segments: int, *, bundles: int = 4) -> list[Link]:
    """Append `bundles` to each of `segments` segments, and begin one more."""
    links = []
    for _ in range(segments):
        for _ in range(bundles):
            bundle = seal(size=60_000)
            links.append(bundle.link)
            outbox.append(bundle)
        await outbox.roll()
    return links
