import os
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from gateway.envelope.keys import Ed25519Signer, Recipient, VerifyKey
from gateway.envelope.open import parse
from gateway.envelope.seal import ChainWriter
from gateway.model import Batch, Link, Record
from gateway.outbox.outbox import Outbox

SIGNER = Ed25519Signer(ed25519.Ed25519PrivateKey.generate())
RECIPIENT = Recipient(50, x25519.X25519PrivateKey.generate().public_key().public_bytes_raw())
STREAMS = [os.urandom(16) for _ in range(3)]


def begin(predecessor: Link | None) -> ChainWriter:
    return ChainWriter(
        gateway="gw",
        chain=os.urandom(16),
        signer=SIGNER,
        recipients=[RECIPIENT],
        predecessor=predecessor,
        random=os.urandom,
    )


async def tick(outbox: Outbox, writer: ChainWriter, records: int) -> None:
    """Seal and store as many records a stream, in as many bundles as that takes."""
    content = tuple(Record("AA:BB:CC:DD:EE:FF", 1, at * 7919 % 10**9, -2, at * 977) for at in range(records))
    batches = tuple(Batch(stream, content) for stream in STREAMS)
    while batches:
        if not outbox.fits():
            await outbox.roll()
            writer.end_segment()
        bundle, batches = writer.seal(batches, now_ms=0)
        outbox.append(bundle)
    await outbox.sync()


async def test_what_a_chain_writer_seals_comes_back_verified_and_chained_over_segments_and_restarts(
    reopen: Callable[..., Outbox],
) -> None:
    for _ in range(2):
        outbox = reopen()
        writer = begin(outbox.head())
        for _ in range(40):
            await tick(outbox, writer, 1000)
        assert outbox.head() == writer.head
    outbox = reopen()
    stored = outbox.unreceipted(-1, 100_000)
    assert outbox.stats().segments > 3
    assert sum(each.count for each in stored) == 2 * 40 * 1000 * len(STREAMS)
    before: Link | None = None
    for each in stored:
        bundle = parse(outbox.load(each))
        bundle.verify(VerifyKey(SIGNER.alg, SIGNER.public))
        assert each.link == Link(bundle.chain, bundle.no, bundle.hash)
        assert bundle.prev == (before.hash if before else bytes(32))
        if bundle.no == 0:
            assert bundle.predecessor == (before and (before.chain, before.no))
        before = each.link
