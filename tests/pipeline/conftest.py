"""A gateway's hallway over a real outbox, and a reader of what it made durable."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock.keeper import Sample
from gateway.clock.system import Clock, SystemClocks
from gateway.envelope.keys import HPKE_X25519, Ed25519Signer, RecipientKey
from gateway.envelope.open import parse
from gateway.envelope.records import Columns
from gateway.envelope.seal import ChainWriter
from gateway.health.metrics import GLUCOSE
from gateway.health.quality import Assessor
from gateway.model import Event, Extra, Gap, Lane, Reading, Record
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline, root

GATEWAY, STREAM, OTHER = "gw-1", b"a" * 16, b"b" * 16
NOW_MS = 1_790_000_000_000
BOOT = b"boot" * 4
KEY = RecipientKey(HPKE_X25519, b"k" * 32)
SIGNER = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
LOW_ALARM = 0x04 << 16
"""CGM: below the patient's low level."""


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox.open(tmp_path / "outbox", gateway=GATEWAY, segment_bytes=1 << 20, capacity_bytes=16 << 20)
    yield outbox
    outbox.close()


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics()


class Clocks:
    """The system's clocks, as a test sets them."""

    boot_ms = 5_000
    wall_ms = NOW_MS
    error_ms: int | None = 10
    """None: nothing vouches for the clock."""

    def sample(self) -> Sample:
        return Sample(self.boot_ms, self.wall_ms, self.error_ms)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def clock(clocks: Clocks) -> Clock:
    system = SystemClocks(boot=BOOT, boot_ms=lambda: clocks.boot_ms, sample=clocks.sample)
    clock = Clock.start("auto", not_before_ms=0, clocks=system)
    clock.look()
    return clock


@pytest.fixture
def build(clock: Clock, metrics: GatewayMetrics) -> Callable[[Outbox], Pipeline]:
    """The pipeline of a process that starts with this outbox."""

    def make(outbox: Outbox) -> Pipeline:
        writers = {
            lane: ChainWriter(
                gateway=GATEWAY,
                chain=os.urandom(16),
                signer=SIGNER,
                recipients=[KEY.recipient],
                predecessor=outbox.head(lane) or root(GATEWAY, lane),
                random=os.urandom,
            )
            for lane in Lane
        }
        return Pipeline(
            gateway=GATEWAY,
            writers=writers,
            outbox=outbox,
            assessor=Assessor(),
            metrics=metrics,
            tick_ms=20,
            offline_tick_ms=20,
            heartbeat_s=0.05,
            online=lambda: True,
            clock=clock,
            profile=lambda address: "cgm" if address.endswith(":01") else "unknown",
        )

    return make


@pytest.fixture
def pipeline(outbox: Outbox, build: Callable[[Outbox], Pipeline]) -> Pipeline:
    return build(outbox)


def reading(number: int) -> Reading:
    return Reading("F0:00:00:00:00:01", GLUCOSE, 100 + number % 30, 0, NOW_MS, extras=((Extra.SEQUENCE, number),))


def alarm(number: int) -> Reading:
    """A reading with which the monitor itself raises an alarm."""
    extras = ((Extra.SEQUENCE, number), (Extra.STATUS, LOW_ALARM))
    return Reading("F0:00:00:00:00:01", GLUCOSE, 50, 0, NOW_MS, extras=extras)


def opened(outbox: Outbox, *lanes: Lane) -> Iterator[tuple[bytes, tuple[Record, ...] | tuple[Event, ...] | Gap]]:
    """What the durable bundles hold, by stream, opened with the recipient's key."""
    for lane in lanes or Lane:
        epochs = {}
        for stored in outbox.unreceipted(-1, 10_000, lane):
            bundle = parse(outbox.load(stored))
            epochs |= {(bundle.chain, part.epoch): part.open(bundle, {KEY.kid: KEY}) for part in bundle.epochs}
            for sealed in bundle.parts:
                part = sealed.open(bundle, epochs[bundle.chain, sealed.epoch])
                content = part.content
                yield part.stream, content.records() if isinstance(content, Columns) else content


def sealed_records(outbox: Outbox) -> list[Record]:
    """All records of patients' streams in the durable bundles."""
    contents = [content for _, content in opened(outbox) if not isinstance(content, Gap)]
    return [each for content in contents for each in content if isinstance(each, Record)]


def events(outbox: Outbox, *lanes: Lane) -> list[Event]:
    """All records of the gateway's own stream in the durable bundles."""
    contents = [content for _, content in opened(outbox, *lanes) if not isinstance(content, Gap)]
    return [each for content in contents for each in content if isinstance(each, Event)]


def contents(outbox: Outbox, *lanes: Lane) -> dict[bytes, list[object]]:
    """What the durable bundles say: sequence numbers, or event codes, or gaps."""
    found: dict[bytes, list[object]] = {}
    for stream, content in opened(outbox, *lanes):
        entries = found.setdefault(stream, [])
        if isinstance(content, Gap):
            entries.append(f"gap of {content.count}")
        else:
            entries += [each.code if isinstance(each, Event) else dict(each.extras)[Extra.SEQUENCE] for each in content]
    return found
