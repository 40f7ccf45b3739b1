"""Hostile messages mixed into honest load: HOSTILE of them (`make test-hostile HOSTILE=1000000`), through mosquitto as
shipped and a receiver as installed, on each store.

In each round the broker's queue is filled while the receiver is stopped, then it takes all: once honest bundles alone,
once with nine hostile messages for each. What is compared is how fast the honest ones are committed.
"""

import asyncio
import json
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.cli import receiver as receiver_cli
from gateway.config import load
from gateway.envelope.keys import signer_for
from gateway.envelope.open import parse
from gateway.errors import ConfigError
from gateway.identity.files import load_private_key, load_recipient_key
from gateway.lab import mosquitto, postgres
from gateway.lab.fleet import Shape, SimulatedGateway, publish, ticks
from gateway.lab.pki import make_dev_pki
from gateway.lab.process import Child
from gateway.lab.site import Site, build, free_port
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.plan import Message
from gateway.receiver.store import QUARANTINE_BUNDLES, QUARANTINE_BUNDLES_PER_GATEWAY, QUARANTINE_BYTES, Store
from gateway.receiver.stores import open_store
from gateway.uplink.mqtt import Connection
from tests.hostile.forging import Forger
from tests.receiver.serving import gateway

pytestmark = pytest.mark.skipif(
    mosquitto.program() is None, reason="mosquitto is not installed; on Debian: apt install mosquitto"
)
HOSTILE = int(os.environ.get("HOSTILE", "3000"))
PER_HONEST = 9
ROUNDS = max(3, HOSTILE // 9_000)
"""Small enough that what is made for one round keeps nobody from answering the broker's pings."""
HONEST = tuple(f"gw-{number}" for number in range(4))
HACKED = tuple(f"hacked-{number}" for number in range(4))
SHAPE = Shape(streams=4, readings=16)
NOW_MS = 1_790_000_000_000
BUNDLES = "SELECT coalesce(sum(last - first + 1), 0) FROM bundle_runs"
GROWTH_BYTES = 48 << 20
"""What the receiver may grow by over all rounds: caches fill, nothing piles up."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield "sqlite"
        return
    try:
        cluster = postgres.Cluster()
    except ConfigError as error:
        pytest.skip(str(error))
    with cluster:
        yield cluster.create("hostile")


@pytest.fixture
async def site(tmp_path: Path, url: str) -> AsyncIterator[Site]:
    port = free_port()
    site = Site(tmp_path / "site", broker_port=port, uplink_port=port)
    build(site, devices={})
    make_dev_pki(site.pki, [*HONEST, *HACKED])
    with site.receiver_config.open("a") as file:
        file.write(f'\n[store]\nurl = "{url}"\n')
    state = site.root / "broker"
    state.mkdir()
    broker = await Child.run("broker", *mosquitto.command(site.pki, state, port), logs=site.logs)
    yield site
    await broker.stop()


def box(site: Site, name: str) -> SimulatedGateway:
    """A gateway with the signer that is registered for it."""
    recipient = load_recipient_key(site.pki / "recipient.key").recipient
    return SimulatedGateway(name, recipient, signer_for(load_private_key(site.pki / "gateways" / name / "sign.key")))


@dataclass
class Rounds:
    """Fills the broker's queue and times a receiver that takes all of it."""

    receiver: Child
    store: Store
    connections: dict[str, Connection]
    stored: set[bytes] = field(default_factory=set)
    """Hashes of what must be there."""
    resident: list[int] = field(default_factory=list)

    async def take(self, honest: Sequence[Message], others: Sequence[Message]) -> float:
        """Seconds until the receiver has committed all of `honest`; `others` lie evenly between them."""
        per = len(others) // len(honest)
        mixed = (each for at, one in enumerate(honest) for each in (one, *others[at * per : (at + 1) * per]))
        self.receiver.signal(signal.SIGSTOP)
        await publish(self.connections.__getitem__, mixed)
        self.stored |= {parse(each.payload).hash for each in honest}
        self.receiver.signal(signal.SIGCONT)
        started_s = time.monotonic()
        while self.count(BUNDLES) < len(self.stored):
            assert self.receiver.running, self.receiver.last_words()
            assert time.monotonic() < started_s + 300, self.count(BUNDLES)
            await asyncio.sleep(0.02)
        taken_s = time.monotonic() - started_s
        await self.until_quiet()
        pages = int(Path(f"/proc/{self.receiver.pid}/statm").read_text().split()[1])
        self.resident.append(pages * os.sysconf("SC_PAGE_SIZE"))
        return taken_s

    def count(self, query: str) -> int:
        [(number,)] = self.store.rows(query)
        return int(number)

    async def until_quiet(self) -> None:
        """The broker's queue is empty when nothing more changes."""
        before = -1
        while before != (before := self.count("SELECT coalesce(sum(times), 0) FROM quarantine")):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.3)


async def test_hostile_messages_cost_the_honest_no_more_than_their_bytes(
    site: Site, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = [box(site, name) for name in HONEST]
    async with AsyncExitStack() as stack:
        store = stack.enter_context(closing(open_store(load(site.receiver_config, ReceiverConfig))))
        broker = f"127.0.0.1:{site.broker_port}"
        connections = {
            name: await stack.enter_async_context(gateway(site.pki, broker, name=name)) for name in (*HONEST, *HACKED)
        }
        arguments = ("gateway.cli.receiver", "run", "--config", str(site.receiver_config))
        receiver = await Child.serve("receiver", *arguments, logs=site.logs)
        stack.push_async_callback(receiver.stop)
        rounds = Rounds(receiver, store, connections)
        own = {name: list(ticks([box(site, name)], SHAPE, 20, now_ms=NOW_MS)) for name in HACKED}
        await rounds.take([each for messages in own.values() for each in messages], ())
        forger = Forger(
            {name: [each.payload for each in messages] for name, messages in own.items()},
            SimulatedGateway("stranger", load_recipient_key(site.pki / "recipient.key").recipient),
            seed=1,
        )
        bundles = HOSTILE // PER_HONEST // ROUNDS // len(HONEST)
        kept, share = [], []
        for _ in range(ROUNDS):
            alone = list(ticks(boxes, SHAPE, bundles, now_ms=NOW_MS))
            honest = list(ticks(boxes, SHAPE, bundles, now_ms=NOW_MS))
            hostile = list(forger.messages(honest, PER_HONEST * len(honest)))
            alone_s, mixed_s = await rounds.take(alone, ()), await rounds.take(honest, hostile)
            sizes = [sum(len(each.payload) for each in messages) for messages in (honest, hostile)]
            share.append(sizes[1] / sum(sizes))
            kept.append(alone_s / mixed_s)
        report = {
            "store": url.partition(":")[0],
            "hostile": ROUNDS * PER_HONEST * bundles * len(HONEST),
            "honest_throughput_kept": round(statistics.median(kept), 3),
            "honest_share_of_bytes": round(1 - statistics.median(share), 3),
            "resident_mb": [each >> 20 for each in rounds.resident],
        }
        with capsys.disabled():
            print(json.dumps(report))  # noqa: T201 - what was measured
        assert_nothing_else_is_stored(rounds, site)
        assert report["honest_throughput_kept"] >= report["honest_share_of_bytes"], report
        assert max(rounds.resident) - rounds.resident[0] < GROWTH_BYTES, report


def assert_nothing_else_is_stored(rounds: Rounds, site: Site) -> None:
    """Nothing but what honest keys signed, each once; the quarantine is full of the rest and bounded."""
    store = rounds.store
    assert Counter(bytes(digest) for (digest,) in store.rows("SELECT hash FROM bundles")) == Counter(rounds.stored)
    assert rounds.count("SELECT count(*) FROM reading_rows") == len(rounds.stored) * SHAPE.streams * SHAPE.readings
    assert rounds.count("SELECT count(*) FROM forks") == rounds.count("SELECT count(*) FROM parked") == 0
    quarantined = dict(store.rows("SELECT gateway, count(*) FROM quarantine GROUP BY gateway"))
    assert set(quarantined) == set(HACKED)
    assert sum(quarantined.values()) <= QUARANTINE_BUNDLES
    assert max(quarantined.values()) <= QUARANTINE_BUNDLES_PER_GATEWAY
    assert rounds.count("SELECT sum(size_bytes) FROM quarantine") <= QUARANTINE_BYTES
    causes = {cause for (cause,) in store.rows("SELECT DISTINCT cause FROM quarantine")}
    assert causes >= {"malformed", "signature", "signer"}
    arguments = receiver_cli.parser().parse_args(["audit", "--config", str(site.receiver_config)])
    assert arguments.command(arguments) == 0
