"""What the receiver asks of a database, and the store's incarnation, which must not be restored with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.durable import write_durably
from gateway.envelope.open import SignedBundle
from gateway.errors import StoreError
from gateway.model import StoreId
from gateway.receiver.plan import Message, Plan, State

INCARNATION = "incarnation"
QUARANTINE_BUNDLES = 1024
QUARANTINE_BUNDLES_PER_GATEWAY = 256
QUARANTINE_BYTES = 16 << 20
"""Of the newest that must not be believed, at most so many are kept to be looked at."""
QUARANTINED_PAYLOAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction alone could tell."""

    counter: int
    """Of the plan's answers, of which a gateway gets one: higher than any before."""
    repeated: int
    """Readings left out: a wearable's stored record that this stream already has under another number."""
    forks: int
    """Forks that were not known before."""
    parked: int
    """Bundles that wait for their epoch now."""


class StoredStream(NamedTuple):
    """A stream and its number in the store."""

    number: int
    gateway: str
    stream: bytes


class Store(Protocol):
    """Everything durable of a receiver; every method raises `StoreError` and then has changed nothing."""

    @property
    def id(self) -> StoreId:
        """Random at creation, with the incarnation in force."""

    def load(self, bundles: Sequence[SignedBundle]) -> State:
        """What is known of all that these bundles touch."""

    def commit(self, plan: Plan, *, now_ms: int) -> Committed:
        """Write all of `plan` durably, or nothing.

        Raises `StoreChangedError` if another receiver changed what the last `load` told, unless the store keeps others
        from it until then.
        """

    def ready(self, *, after: int, limit: int) -> list[tuple[int, Message]]:
        """Parked bundles, numbered beyond `after`, whose epochs have all arrived; ascending."""

    def last_received_ms(self) -> dict[str, int]:
        """When the newest bundle of each gateway arrived."""

    def summary(self) -> dict[str, Any]:
        """For people: per gateway and stream what is here and what is missing."""

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What one of `queries` finds."""

    def change(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Run some of `queries` with their values, all of them durably or none."""

    def erase(self, stream: StoredStream, certify: Callable[[dict[str, int]], str], *, now_ms: int) -> str:
        """Destroy all of a stream and close it; `certify` turns what was destroyed into the certificate to keep.

        All of it durably or nothing; no other worker decides about the stream's gateway meanwhile.
        """

    def close(self) -> None:
        """Let go of the database."""


def open_incarnation(directory: Path) -> int:
    """The incarnation in force; 1 in a directory that holds none, which is made if need be. Raises `StoreError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be made: {error}") from error
    if not (directory / INCARNATION).exists():
        return next_incarnation(directory)
    return read_incarnation(directory)


def read_incarnation(directory: Path) -> int:
    """The incarnation in force.

    Raises `StoreError` if the file is missing or no positive number: a wrong one would make gateways ignore receipts.
    """
    path = directory / INCARNATION
    try:
        incarnation = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read: {error}; write a number higher than any that this store has used"
        ) from error
    if incarnation < 1:
        raise StoreError(f"{path}: {incarnation} is not a positive number")
    return incarnation


def next_incarnation(directory: Path) -> int:
    """Count one up, durably: to be done once after every restore or failover, before the receiver starts.

    Gateways then send again what this store's receipts do not cover. Begins with 1 in an empty directory.
    Raises `StoreError` if the number kept there cannot be read or replaced.
    """
    path = directory / INCARNATION
    incarnation = read_incarnation(directory) + 1 if path.exists() else 1
    try:
        write_durably(path, f"{incarnation}\n".encode())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error}") from error
    return incarnation
