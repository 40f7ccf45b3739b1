"""The values that flow: what each room hands to the next.

Frame --health--> Reading --quality--> Record --pipeline--> Batch --envelope--> SealedBundle --outbox--> uplink
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

ExtraValue = int | str | bytes | None


class Quality(IntEnum):
    """How far a value may be trusted; travels with it and never changes it."""

    GOOD = 0
    DOUBTFUL = 1
    VOID = 2
    NOT_PATIENT = 3
    """Control solution, demonstration or test data: never a patient's value."""


class Extra(IntEnum):
    """Keys of a record's optional fields on the wire (`docs/format.md`, "Extras"); a reader skips unknown ones."""

    TIME_SOURCE = 1
    """A `TimeSource`; absent = `TimeSource.RECEIVED`."""
    UNCERTAINTY_MS = 2
    """Half-width of the interval around the record's time; absent = not stated."""
    SEQUENCE = 3
    """The device's own record number: GLS sequence number, CGM time offset in minutes."""
    SESSION = 4
    """What the sequence counts within (text): CGM session start, GLS base time, as the device first said it.

    It begins with `~` if the device cannot date it, or dates it wrongly: then it is the gateway's own name."""
    DEVICE_TIME = 5
    """The device's own time as sent (text, ISO 8601 without zone)."""
    BACKFILLED = 6
    """1: fetched from the device's store, not live."""
    SPECIAL = 7
    """Why there is no value (text): NaN, NRes, +INF, -INF, RFU, or a status bit's name."""
    UNIT = 8
    """The unit in which the device sent the value (text, UCUM), where it is not the metric's own."""
    REASONS = 9
    """The bits of `Reason` behind the quality; absent = none."""
    STATUS = 10
    """The device's status bits as sent."""
    SAMPLE_TYPE = 11
    """Type and location octet of a glucose sample as sent."""
    USER = 12
    """Which of its users a shared device means, as it counts them."""
    CORRECTION_MS = 13
    """What was added to the device's own time, taken as if it were UTC, to get the record's time."""
    BOOT = 14
    """With `TimeSource.BOOT`: from which boot of the gateway the time counts (16 bytes)."""
    BOOT_MS = 15
    """With `TimeSource.BOOT`: milliseconds since that boot; below 0, before it."""


class TimeSource(IntEnum):
    """Where a record's time comes from."""

    RECEIVED = 0
    """The gateway's clock when the value arrived."""
    DEVICE = 1
    """The device's clock, as sent."""
    DEVICE_CORRECTED = 2
    """The device's clock plus the offset measured on this connection."""
    SESSION = 3
    """Session start plus offset."""
    BOOT = 4
    """The gateway's clock was not known: milliseconds since its boot, until an anchor of that boot arrives."""
    ANCHORED = 5
    """As `BOOT`, corrected by an anchor; only a receiver's store says so."""


class Reason(IntFlag):
    """Why a value is not simply good; `health.quality` maps each to a `Quality`."""

    NONE = 0
    NO_VALUE = 1
    IMPLAUSIBLE = 2
    OUT_OF_RANGE = 4
    RATE_OF_CHANGE = 8
    SENSOR_FAULT = 16
    SIGNAL = 32
    NOT_READY = 64
    CALIBRATION = 128
    TIME_DOUBTFUL = 256
    UNIT_MISTAKE = 512
    DEVICE_DOUBTS = 1024
    """The device itself calls the value questionable."""
    CONTRADICTION = 2048
    """Status and value contradict each other."""
    CONTROL_SOLUTION = 4096
    DEMO_DATA = 8192
    TEST_DATA = 16384
    BATTERY_LOW = 32768
    """A note; the value stays good."""
    STORED = 65536
    """A note: the device sent it from its storage."""
    ANOMALY = 131072
    """A note: reserved bits or codes were set."""
    CLOCK_WRONG = 262144
    """A note: the device's clock is further off than any zone explains; its time was corrected."""


class Lane(IntEnum):
    """A way from the disk to the cloud, with a chain of its own; the lower goes first."""

    URGENT = 0
    """What cannot wait: alarms of wearables, security events."""
    DATA = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes of one characteristic, as they came from the air."""

    device: str
    """Bluetooth address, upper case with colons."""
    characteristic: int
    """16-bit UUID."""
    value: bytes
    received_ms: int
    """Gateway time (`clock.keeper`)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one metric, decoded: `mantissa * 10**exponent` in the metric's canonical unit."""

    device: str
    metric: int
    """A key of `health.metrics.METRICS`."""
    mantissa: int | None
    """None: no value; the extra `SPECIAL` says why."""
    exponent: int
    time_ms: int
    """Best estimate of when it was measured: gateway time (`clock.keeper`)."""
    reasons: Reason = Reason.NONE
    extras: tuple[tuple[int, ExtraValue], ...] = ()
    """(key, value) pairs in ascending order of key; keys are `Extra`."""


@dataclass(frozen=True, slots=True)
class Record:
    """A reading with its quality, as it is sealed; its number in the stream is its place in the batch."""

    device: str
    metric: int
    mantissa: int | None
    exponent: int
    time_ms: int
    quality: Quality = Quality.GOOD
    extras: tuple[tuple[int, ExtraValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the gateway's own stream: heartbeat, eviction, clock anchor, security event."""

    time_ms: int
    code: str
    details: tuple[int | str | bytes | None, ...] = ()
    boot: bytes | None = None
    """If not None, the gateway's clock was not known: `time_ms` counts from this boot."""


SECURITY_EVENTS: Final = frozenset({"bond-lost", "duplicate-address", "pairing-refused", "quarantined", "security"})
"""Codes of events that cannot wait (`docs/format.md`, "Events"); what no other code fits is a `security` event."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of a stream that were never durable, in place of their records."""

    count: int
    cause: str
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a device's stored records are durable here: everything up to `sequence` within `session`."""

    device: str
    session: str
    """CGM: session start; GLS: base time of the newest record; as in `Extra.SESSION`."""
    sequence: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one tick gathered for one stream: records, or events, or one gap."""

    stream: bytes
    """16 bytes; never a name."""
    content: tuple[Record, ...] | tuple[Event, ...] | Gap

    @property
    def count(self) -> int:
        """How many numbers of the stream it takes."""
        return self.content.count if isinstance(self.content, Gap) else len(self.content)


@dataclass(frozen=True, slots=True)
class StreamSpan:
    """What a bundle holds of one stream."""

    stream: bytes
    first: int
    count: int
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Link:
    """A place in a chain: the bundle `no` of `chain`, whose COSE_Sign1 hashes to `hash`."""

    chain: bytes
    no: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Hole:
    """Bundles first..last of a chain that the receiver will never get."""

    chain: bytes
    first: int
    last: int
    hash: bytes
    """Of the last one; zeros if nobody knows it any more."""
    cause: str
    spans: tuple[StreamSpan, ...] = ()
    """What they held of each stream, as far as it is known."""

    @property
    def count(self) -> int:
        """How many bundles."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class SealedBundle:
    """A bundle ready for the disk and the wire, with what the gateway itself must remember of it."""

    link: Link
    data: bytes
    """The wire bytes: CBOR [COSE_Sign1, [epoch part, ...]]."""
    spans: tuple[StreamSpan, ...]
    opens_epoch: bool
    """It carries epoch parts, so its frame is written twice."""


@dataclass(frozen=True, slots=True)
class StoreId:
    """Which store speaks: `incarnation` grows at every restore or failover."""

    store: bytes
    incarnation: int


@dataclass(frozen=True, slots=True)
class ReceiptRange:
    """Bundles first..last of a chain are committed, or explained; `hash` is of the last one."""

    chain: bytes
    first: int
    last: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bundle that will never be stored, and why."""

    chain: bytes
    no: int
    cause: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receiver says after its commit (`docs/format.md`, "Receipt")."""

    gateway: str
    store: StoreId
    counter: int
    ranges: tuple[ReceiptRange, ...]
    refused: tuple[Refusal, ...]
    time_ms: int
