"""Bundles that came in a file, carried by hand: `iomt-gateway outbox export` wrote it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cbor2

from gateway.envelope.open import parse
from gateway.errors import MalformedError, StoreError
from gateway.receiver.intake import Intake
from gateway.receiver.plan import Message

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a file's bundles."""

    bundles: int
    stored: int
    redelivered: int
    parked: int
    """Wait for a bundle that opens their epoch."""
    refused: int
    """Not believed, or not openable: quarantined with their cause."""


def take_file(intake: Intake, path: Path) -> Carried:
    """Take all bundles of a file, as if they had come from the broker; to do it again changes nothing.

    Raises `StoreError` where the file cannot be read or is something else, or the store refuses.
    """
    bundles = stored = redelivered = refused = parked = 0
    messages = _messages(path)
    while batch := list(islice(messages, _AT_ONCE)):
        taken = intake.take(batch, now_ms=_now_ms())
        bundles += len(batch)
        stored += len(taken.plan.bundles)
        redelivered += taken.plan.redelivered
        refused += len(taken.plan.quarantined)
    while ready := intake.store.ready(after=-1, limit=_AT_ONCE):
        taken = intake.take([message for _, message in ready], now_ms=_now_ms())
        stored += len(taken.plan.bundles)
        parked = taken.committed.parked
    return Carried(bundles, stored, redelivered, parked, refused)


def _messages(path: Path) -> Iterator[Message]:
    """Yield the bundles of a CBOR sequence of byte strings, as messages of the gateway that each names."""
    try:
        with path.open("rb") as file:
            decoder = cbor2.CBORDecoder(file)
            while file.peek(1):
                item = decoder.decode()
                if not isinstance(item, bytes):
                    raise StoreError(f"{path}: is not a file of bundles")
                yield Message(_gateway(item), item)
    except cbor2.CBORDecodeError as error:
        raise StoreError(f"{path}: is cut short, or not a file of bundles: {error}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def _gateway(bundle: bytes) -> str:
    """The gateway that a bundle names; "" where it names none, which is then refused as malformed."""
    try:
        return parse(bundle).gateway
    except MalformedError:
        return ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
