"""Judges the signed messages of an archive, each by itself, in as many processes as there are.

What depends on the order of a chain is left to who asks; so the processes share nothing and answer in order.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from gateway.envelope.keys import VerifyKey
from gateway.envelope.open import parse_signed
from gateway.errors import MalformedError, SealError, SignerError
from gateway.receiver.plan import ChainKey

_HERE = 2048
"""Messages judged before processes are started: for so few they are not worth it."""
_BATCH = 256
_AHEAD = 4
"""Batches under way for each process."""

Registry = Mapping[bytes, tuple[str, VerifyKey]]
"""The kid of every signer: whose it is, and its key."""


class Signed(NamedTuple):
    """One message of the archive; `sign1` is empty where it is not kept any more."""

    chain: ChainKey
    no: int
    hash: bytes
    sign1: bytes


class Said(NamedTuple):
    """What a verified message says; of each part its epoch, the number of its first record, and how many."""

    prev: bytes
    predecessor: tuple[bytes, int] | None
    epoch_hashes: tuple[bytes, ...]
    parts: tuple[tuple[int, int, int], ...]


class Judged(NamedTuple):
    """A message and what it says, or why it must not be believed; neither where it is not kept any more."""

    chain: ChainKey
    no: int
    hash: bytes
    said: Said | None = None
    cause: str | None = None


Judge = Callable[[Iterable[Signed]], Iterator[Judged]]


def judge(message: Signed, registry: Registry) -> Judged:
    """Judge one. Never raises for what a gateway sent."""
    if not message.sign1:
        return Judged(*message[:3])
    try:
        bundle = parse_signed(message.sign1)
        if (bundle.gateway, bundle.chain, bundle.no, bundle.hash) != (*message.chain, message.no, message.hash):
            raise MalformedError("stored in another's place")
        owner, key = registry.get(bundle.signer_kid, (None, None))
        if key is None or owner != bundle.gateway:
            raise SignerError("signed by a key that is not registered for its gateway")
        bundle.verify_signature(key)
    except SealError as error:
        return Judged(*message[:3], cause=error.cause)
    parts = tuple((part.epoch, part.first, part.count) for part in bundle.parts)
    return Judged(*message[:3], said=Said(bundle.prev, bundle.predecessor, bundle.epoch_hashes, parts))


@contextmanager
def judging(registry: Registry, jobs: int) -> Iterator[Judge]:
    """A judge of any number of messages, in order; with more than one job, in so many processes."""
    if jobs == 1:
        yield lambda messages: (judge(each, registry) for each in messages)
        return
    # Not forked: whoever asks may have threads, and a connection to the database.
    context = multiprocessing.get_context("spawn")
    signers = [(kid, gateway, key.alg, key.public) for kid, (gateway, key) in registry.items()]
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(signers,)) as pool:
        yield lambda messages: _in_order(pool, iter(messages), registry, jobs)


def _in_order(pool: ProcessPoolExecutor, source: Iterator[Signed], registry: Registry, jobs: int) -> Iterator[Judged]:
    yield from (judge(each, registry) for each in islice(source, _HERE))
    waiting: deque[Future[list[Judged]]] = deque()
    while True:
        while len(waiting) < _AHEAD * jobs and (batch := list(islice(source, _BATCH))):
            waiting.append(pool.submit(_judge_all, batch))
        if not waiting:
            return
        yield from waiting.popleft().result()


_registry: dict[bytes, tuple[str, VerifyKey]] = {}
"""In each process of a pool."""


def _begin(signers: Iterable[tuple[bytes, str, int, bytes]]) -> None:
    _registry.update((kid, (gateway, VerifyKey(alg, public))) for kid, gateway, alg, public in signers)


def _judge_all(messages: Sequence[Signed]) -> list[Judged]:
    return [judge(each, _registry) for each in messages]
