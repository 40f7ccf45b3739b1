"""The uplink against real brokers, with a real outbox and a receiver that signs receipts for what it verified."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.config import UplinkSection
from gateway.envelope.keys import Signer, signer_for
from gateway.envelope.open import parse
from gateway.envelope.receipt import encode_receipt
from gateway.envelope.seal import ChainWriter
from gateway.errors import ReceiptError
from gateway.identity.files import load_private_key, load_recipient_key, verify_key
from gateway.lab.proxy import Proxy
from gateway.model import Batch, Event, Receipt, ReceiptRange, Refusal, StoreId
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox
from gateway.uplink.mqtt import Connection
from gateway.uplink.uplink import Uplink

from .conftest import Broker, eventually, free_port, tls_of

GATEWAY = "gw-001"
STREAM = bytes(16)
NOW_MS = 1_790_000_000_000


@dataclass
class Box:
    """A gateway without a radio: an outbox, a chain, an uplink."""

    pki: Path
    outbox: Outbox
    uplink: Uplink
    metrics: GatewayMetrics
    writer: ChainWriter
    key_lists: list[bytes]

    async def seal(self, count: int) -> None:
        for number in range(count):
            batch = Batch(STREAM, (Event(NOW_MS + number, "test"),))
            bundle, rest = self.writer.seal([batch], now_ms=NOW_MS)
            assert not rest
            self.outbox.append(bundle)
        await self.outbox.sync()

    @property
    def waiting(self) -> int:
        return len(self.outbox.unreceipted(-1, 10_000))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"iomt_gateway_{name}", labels) or 0.0


@pytest.fixture
def box(pki: Path, tmp_path: Path) -> Box:
    return make_box(pki, tmp_path)


def make_box(pki: Path, directory: Path, **changes: object) -> Box:
    outbox = Outbox.open(directory / "outbox", gateway=GATEWAY, segment_bytes=1 << 20, capacity_bytes=8 << 20)
    metrics = GatewayMetrics()
    key_lists: list[bytes] = []

    def take(data: bytes) -> None:
        if data == b"forged":
            raise ReceiptError("forged key list")
        key_lists.append(data)

    receiver = verify_key(load_private_key(pki / "receipt.key").public_key())
    uplink = Uplink(
        UplinkSection(**{"endpoints": ["localhost:1"], "backoff_max_s": 0.3, "window": 4, **changes}),
        gateway_id=GATEWAY,
        tls=tls_of(pki, GATEWAY),
        outbox=outbox,
        receivers={receiver.kid: receiver},
        signer_cert_pem=(pki / "gateways" / GATEWAY / "sign.crt").read_bytes(),
        on_key_list=take,
        metrics=metrics,
    )
    writer = ChainWriter(
        gateway=GATEWAY,
        chain=os.urandom(16),
        signer=signer_for(load_private_key(pki / "gateways" / GATEWAY / "sign.key")),
        recipients=[load_recipient_key(pki / "recipient.key").recipient],
        predecessor=outbox.head(),
        random=os.urandom,
    )
    return Box(pki, outbox, uplink, metrics, writer, key_lists)


@contextlib.asynccontextmanager
async def running(box: Box, *endpoints: str, **changes: object) -> AsyncIterator[Box]:
    section = {**box.uplink._config.model_dump(), "endpoints": endpoints, **changes}
    box.uplink._config = UplinkSection(**section)
    task = asyncio.ensure_future(box.uplink.run())
    try:
        yield box
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        box.outbox.close()


@dataclass
class Cloud:
    """Receives, verifies, and answers each bundle with a receipt, unless told otherwise."""

    broker: Broker
    signer: Signer
    answers: bool = True
    arrived: list[int] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)
    counter: int = 0
    connection: Connection | None = None

    async def run(self) -> None:
        key = verify_key(load_private_key(self.broker.pki / "gateways" / GATEWAY / "sign.key").public_key())
        while True:
            with contextlib.suppress(Exception):
                async with self.broker.connection("receiver") as self.connection:
                    await self.connection.subscribe(f"v1/gw/{GATEWAY}/up/#")
                    async for message in self.connection.messages():
                        bundle = parse(message.payload)
                        bundle.verify(key)
                        self.arrived.append(bundle.no)
                        self.chains.append(bundle.chain)
                        if self.answers:
                            self.send(self.receipt(bundle.chain, bundle.no, bundle.hash))
                        message.ack()
            await asyncio.sleep(0.1)

    def receipt(self, chain: bytes, no: int, digest: bytes, **changes: object) -> Receipt:
        self.counter += 1
        ranges = (ReceiptRange(chain, no, no, digest),)
        values = {"gateway": GATEWAY, "store": StoreId(b"s" * 16, 1), "counter": self.counter, "ranges": ranges}
        return Receipt(**{**values, "refused": (), "time_ms": NOW_MS, **changes})  # type: ignore[arg-type] # as above

    def send(self, receipt: Receipt, *, signer: Signer | None = None) -> None:
        assert self.connection is not None
        self.connection.publish(f"v1/gw/{GATEWAY}/down/receipt", encode_receipt(receipt, signer or self.signer))


@contextlib.asynccontextmanager
async def receiving(broker: Broker, *, answers: bool = True) -> AsyncIterator[Cloud]:
    async with broker.connection("receiver", clean_start=True):
        pass
    cloud = Cloud(broker, signer_for(load_private_key(broker.pki / "receipt.key")), answers)
    async with broker.connection("receiver") as connection:
        await connection.subscribe(f"v1/gw/{GATEWAY}/up/#")
    task = asyncio.ensure_future(cloud.run())
    try:
        await eventually(lambda: cloud.connection is not None)
        yield cloud
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_everything_durable_arrives_in_order_and_leaves_the_outbox_by_receipt(broker: Broker, box: Box) -> None:
    await box.seal(30)
    async with receiving(broker) as cloud, running(box, broker.endpoint):
        await eventually(lambda: box.waiting == 0)
        await box.seal(10)
        await eventually(lambda: box.waiting == 0)
        assert cloud.arrived == list(range(40))
        assert box.count("uplink_published_bundles_total") == 40
        assert box.count("uplink_acknowledged_bundles_total") == 40
        assert box.count("uplink_receipted_bundles_total") == 40
        assert box.count("uplink_receipt_seconds_count") == 40
        assert box.uplink.online


async def test_a_puback_forgets_nothing_and_publishing_stops_eight_windows_ahead(broker: Broker, box: Box) -> None:
    async with receiving(broker, answers=False) as cloud, running(box, broker.endpoint):
        await eventually(lambda: box.uplink.online)
        await box.seal(50)
        await eventually(lambda: len(cloud.arrived) == 32)
        await eventually(lambda: box.count("uplink_acknowledged_bundles_total") == 32)
        await asyncio.sleep(0.1)
        assert len(cloud.arrived) == 32
        assert box.waiting == 50


async def test_what_no_receipt_covers_in_time_is_sent_again(broker: Broker, box: Box) -> None:
    await box.seal(3)
    async with receiving(broker, answers=False) as cloud, running(box, broker.endpoint, receipt_timeout_s=0.3):
        await eventually(lambda: cloud.arrived[:6] == [0, 1, 2, 0, 1, 2])
        cloud.answers = True
        await eventually(lambda: box.waiting == 0)


async def test_a_refusal_by_the_receiver_parks_the_bundle_and_keeps_it(broker: Broker, box: Box) -> None:
    await box.seal(2)
    async with receiving(broker, answers=False) as cloud, running(box, broker.endpoint, receipt_timeout_s=0.3):
        await eventually(lambda: len(cloud.arrived) == 2)
        chain = box.writer.head.chain if box.writer.head else b""
        cloud.send(cloud.receipt(chain, 1, b"", ranges=(), refused=(Refusal(chain, 1, "malformed"),)))
        await eventually(lambda: box.count("uplink_parked_bundles") == 1)
        cloud.arrived.clear()
        await eventually(lambda: len(cloud.arrived) >= 1)
        assert set(cloud.arrived) == {0}
        assert box.waiting == 2


async def test_a_receipt_that_must_not_be_believed_is_counted_told_once_and_changes_nothing(
    broker: Broker, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    await box.seal(1)
    async with receiving(broker, answers=False) as cloud, running(box, broker.endpoint):
        await eventually(lambda: len(cloud.arrived) == 1)
        head = box.writer.head
        assert head is not None
        honest = cloud.receipt(head.chain, head.no, head.hash)
        stranger = signer_for(load_private_key(broker.pki / "fleet-root.key"))
        for _ in range(5):
            cloud.send(honest, signer=stranger)
        cloud.send(cloud.receipt(head.chain, head.no, head.hash, gateway="gw-002"))
        await eventually(lambda: box.count("receipt_errors_total", cause="receipt") == 6)
        assert len([each for each in caplog.messages if "not believed" in each]) == 1
        cloud.send(cloud.receipt(head.chain, head.no, bytes(32)))
        await eventually(lambda: box.count("receipt_errors_total", cause="mismatch") == 1)
        assert box.waiting == 1
        assert box.uplink.online
        cloud.send(cloud.receipt(head.chain, head.no, head.hash))
        await eventually(lambda: box.waiting == 0)


async def test_key_lists_are_handed_on_and_a_forged_one_is_counted(broker: Broker, box: Box) -> None:
    async with receiving(broker) as cloud, running(box, broker.endpoint):
        await eventually(lambda: box.uplink.online)
        assert cloud.connection is not None
        for data in (b"forged", b"genuine"):
            cloud.connection.publish(f"v1/gw/{GATEWAY}/down/keys", data)
        await eventually(lambda: box.key_lists == [b"genuine"])
        assert box.count("receipt_errors_total", cause="receipt") == 1


async def test_the_status_is_born_retained_and_a_farewell_says_offline(broker: Broker, box: Box) -> None:
    seen: list[dict[str, object]] = []

    async def watch() -> None:
        async with broker.connection("receiver", clean_start=True) as receiver:
            await receiver.subscribe(f"v1/gw/{GATEWAY}/status")
            async for message in receiver.messages():
                seen.append(json.loads(message.payload) if message.payload.startswith(b"{") else {})
                message.ack()

    async with running(box, broker.endpoint):
        await eventually(lambda: box.uplink.online)
        watching = asyncio.ensure_future(watch())
        await eventually(lambda: [each.get("state") for each in seen] == ["online"])
        assert str(seen[0]["signer_cert"]).encode() == (broker.pki / "gateways" / GATEWAY / "sign.crt").read_bytes()
        assert isinstance(seen[0]["time_ms"], int)
    await eventually(lambda: [each.get("state") for each in seen] == ["online", "offline"])
    assert not box.uplink.online
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_through_cuts_and_holes_everything_arrives(broker: Broker, box: Box) -> None:
    async with Proxy(listen=0, to=broker.port) as proxy, receiving(broker) as cloud:
        changes = {"ack_timeout_s": 0.4, "connect_timeout_s": 0.5, "receipt_timeout_s": 1.0}
        async with running(box, f"localhost:{proxy.port}", **changes):
            for fault in (proxy.cut, proxy.hole, proxy.cut):
                await box.seal(15)
                await eventually(lambda: box.uplink.online)
                fault()
                await box.seal(5)
                await asyncio.sleep(0.5)
                proxy.mend()
            await eventually(lambda: box.waiting == 0)
            assert set(cloud.arrived) == set(range(60))
            assert box.count("uplink_reconnects_total", cause="lost") >= 1


async def test_a_broker_killed_in_the_middle_loses_nothing_that_is_unreceipted(
    mortal_broker: Broker, tmp_path: Path
) -> None:
    box = make_box(mortal_broker.pki, tmp_path / "box")
    async with receiving(mortal_broker) as cloud, running(box, mortal_broker.endpoint, receipt_timeout_s=0.5):
        await box.seal(20)
        await eventually(lambda: len(cloud.arrived) >= 5)
        await box.seal(50)
        mortal_broker.kill()
        await box.seal(10)
        mortal_broker.start()
        await eventually(lambda: box.waiting == 0)
        assert set(cloud.arrived) == set(range(80))


async def test_each_failure_is_logged_once_and_counted_by_cause_and_endpoints_rotate(
    broker: Broker, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    box.uplink._tls = tls_of(broker.pki, GATEWAY)
    with caplog.at_level(logging.INFO, logger="gateway.uplink.uplink"):
        async with running(box, "no-such-host.invalid:1", nobody, backoff_max_s=0.01):
            await eventually(lambda: box.count("uplink_reconnects_total", cause="dns") >= 2)
            await eventually(lambda: box.count("uplink_reconnects_total", cause="unreachable") >= 2)
    messages = [record.getMessage() for record in caplog.records]
    assert len([each for each in messages if "has no address" in each]) == 1
    assert len([each for each in messages if "cannot be reached" in each]) == 1


async def test_a_cancelled_uplink_ends_at_once_wherever_it_is(broker: Broker, pki: Path, tmp_path: Path) -> None:
    for number, delay_s in enumerate((0.0, 0.005, 0.02, 0.1)):
        box = make_box(pki, tmp_path / str(number))
        await box.seal(10)
        async with asyncio.timeout(30), running(box, broker.endpoint):
            await asyncio.sleep(delay_s)
