"""Sealing whole ticks, and records that do not compress."""

from gateway.envelope.seal import ChainWriter
from gateway.model import Batch, Record, SealedBundle
from tests.envelope.conftest import (
    NOW_MS,
)


def seal_all(own: ChainWriter, batches: tuple[Batch, ...]) -> list[SealedBundle]:
    bundles = []
    while batches:
        bundle, batches = own.seal(batches, now_ms=NOW_MS)
        bundles.append(bundle)
    return bundles


def incompressible(count: int, start: int = 0) -> tuple[Record, ...]:
    return tuple(
        Record("d", 1, number * 7919**3 % (2**53 - 1), 0, number * 104_729 % 2**40, extras=((3, number * 31),))
        for number in range(start, start + count)
    )
