"""The values between ingest and store: what is known before a transaction and what it writes. Sans-IO."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.envelope.open import EpochPart, OpenEpoch, SignedBundle
from gateway.model import Event, Gap, ReceiptRange, Refusal
from gateway.receiver.coverage import Coverage, Run

as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=bytes.hex).encode
"""What the store keeps as JSON: byte strings in hex, no spaces."""


class ChainKey(NamedTuple):
    """A chain, owned by its gateway: two gateways that name the same chain id share nothing."""

    gateway: str
    chain: bytes


class SeriesKey(NamedTuple):
    """The records of one stream in one chain, numbered 0, 1, 2, ..."""

    gateway: str
    stream: bytes
    chain: bytes


class BundleKey(NamedTuple):
    """One bundle, by what it says and what it is."""

    gateway: str
    chain: bytes
    no: int
    hash: bytes

    @classmethod
    def of(cls, bundle: SignedBundle) -> "BundleKey":
        """The key of a parsed bundle."""
        return cls(bundle.gateway, bundle.chain, bundle.no, bundle.hash)


@dataclass(frozen=True, slots=True)
class Message:
    """What the broker delivered."""

    gateway: str
    """As the topic says."""
    payload: bytes


@dataclass(frozen=True, slots=True)
class Last:
    """The last bundle of a revoked signer that still counts: this one, and those before it in its chain."""

    chain: bytes
    no: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that is a whole bundle, signed by the gateway that its topic names."""

    message: Message
    bundle: SignedBundle


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that must not be believed, or never can be stored."""

    message: Message
    cause: str
    hash: bytes
    """SHA-256 of the payload."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a gateway's history contradicts itself."""

    cause: str
    """`same-number`, `broken-link`, `two-successors`, `successor-behind` or `second-root`."""
    bundle: BundleKey


class Stored(NamedTuple):
    """What a stored bundle's neighbours are compared with."""

    hash: bytes
    prev: bytes


class Successor(NamedTuple):
    """Where another chain says that it continues this one."""

    no: int
    hash: bytes


@dataclass(slots=True)
class State:
    """What the store knows of everything that a set of arrivals touches; deciding updates it as it goes.

    A missing key means that the store has nothing.
    """

    bundles: dict[ChainKey, dict[int, Stored]] = field(default_factory=dict)
    """The arrivals themselves, their neighbours, and the bundles that they name as predecessors."""
    signers: dict[ChainKey, bytes] = field(default_factory=dict)
    runs: dict[ChainKey, Coverage] = field(default_factory=dict)
    """Of the chains touched and of the predecessors that they name."""
    successors: dict[ChainKey, dict[bytes, Successor]] = field(default_factory=dict)
    roots: dict[str, set[bytes]] = field(default_factory=dict)
    """Per gateway: chains that name no predecessor."""
    epochs: dict[ChainKey, dict[int, OpenEpoch]] = field(default_factory=dict)
    series: dict[SeriesKey, Coverage] = field(default_factory=dict)
    erased_streams: set[tuple[str, bytes]] = field(default_factory=set)
    """(gateway, stream) of what was forgotten, of the arrivals' gateways."""
    erased_epochs: dict[ChainKey, set[int]] = field(default_factory=dict)
    """Epochs of those streams."""
    parked: set[BundleKey] = field(default_factory=set)
    """Those of the arrivals that are parked."""
    parked_count: int = 0
    """Of all that are parked."""
    parked_of: dict[str, int] = field(default_factory=dict)
    """Of all that are parked, by those of the gateways that the arrivals are from."""


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """An epoch part and what it opened to."""

    gateway: str
    signer_kid: bytes
    part: EpochPart
    opened: OpenEpoch


class Tombstone(NamedTuple):
    """An epoch of a stream that was forgotten: it is never opened, and its parts are discarded."""

    chain: ChainKey
    epoch: int
    stream: bytes


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """Records of one part, as the store keeps them: one list per column, all of one length."""

    device: list[str]
    metric: list[int]
    mantissa: list[int | None]
    exponent: list[int]
    time_ms: list[int]
    quality: list[int]
    sequence: list[int | None]
    session: list[str | None]
    backfilled: list[int]
    extras: list[str | None]
    """The other extras as a JSON object, keys in decimal, byte strings in hex."""


class BootTime(NamedTuple):
    """A record whose time counts from a boot of its gateway, because its clock was not known."""

    no: int
    boot: bytes
    boot_ms: int
    uncertainty_ms: int


class Anchor(NamedTuple):
    """`boot_ms` after a boot of the gateway, UTC was `wall_ms`, give or take `error_ms`."""

    gateway: str
    boot: bytes
    boot_ms: int
    wall_ms: int
    error_ms: int


@dataclass(frozen=True, slots=True)
class NewPart:
    """What one part adds to its series."""

    series: SeriesKey
    first: int
    count: int
    content: ReadingColumns | tuple[Event, ...] | Gap
    boot_times: tuple[BootTime, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """Bundles of a chain that will never come: their gateway had to forget them, and signed that it did."""

    chain: ChainKey
    run: Run


@dataclass(frozen=True, slots=True)
class Answer:
    """What one gateway's receipt says, but for store, counter and time."""

    gateway: str
    ranges: tuple[ReceiptRange, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one transaction writes and answers."""

    bundles: tuple[SignedBundle, ...]
    epochs: tuple[NewEpoch, ...]
    parts: tuple[NewPart, ...]
    runs: Mapping[ChainKey, Coverage]
    series: Mapping[SeriesKey, Coverage]
    explained: tuple[Explained, ...]
    """Covered from the next transaction on."""
    tombstones: tuple[Tombstone, ...]
    anchors: tuple[Anchor, ...]
    """The best of a boot, in this plan or before, corrects the times of all records of that boot."""
    parked: tuple[Arrival, ...]
    unparked: tuple[BundleKey, ...]
    quarantined: tuple[Quarantined, ...]
    forks: tuple[Fork, ...]
    answers: tuple[Answer, ...]
    redelivered: int
    discarded: int
    """Records of forgotten streams that were not opened."""
    overflowed: int
    """Bundles that found no room among the parked; their gateways send them again."""

    @property
    def readings(self) -> int:
        """Readings that it holds, repeated ones included."""
        return sum(part.count for part in self.parts if isinstance(part.content, ReadingColumns))
