"""A receiver behind a real broker, and one gateway that sends to it: what its tests, and those of fleets, share."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.envelope.keys import signer_for
from gateway.envelope.receipt import decode_receipt
from gateway.envelope.seal import ChainWriter
from gateway.identity.files import load_private_key, load_recipient_key, load_registry, verify_key
from gateway.identity.tls import client_context
from gateway.lab.pki import make_dev_pki
from gateway.model import Batch, Receipt, Record
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.config import IngestSection, JetStreamSection, ReceiverBrokerSection
from gateway.receiver.intake import Intake
from gateway.receiver.sqlite import SqliteStore
from gateway.receiver.worker import Receiver
from gateway.uplink.mqtt import Connection

GATEWAY = "gw-1"


def made_pki(directory: Path) -> Path:
    make_dev_pki(directory, [GATEWAY])
    return directory


@asynccontextmanager
async def running(service: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(service)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def receiving(
    pki: Path,
    directory: Path,
    *endpoints: str,
    name: str = "receiver",
    share: str = "",
    jetstream: JetStreamSection | None = None,
    receive_maximum: int = 8,
) -> AsyncIterator[tuple[SqliteStore, ReceiverMetrics]]:
    """A receiver with the certificate `name` on the SQLite store in `directory`; it serves while entered."""
    store, metrics = SqliteStore.open(directory), ReceiverMetrics()
    recipient = load_recipient_key(pki / "recipient.key")
    worker = Receiver(
        ReceiverBrokerSection(endpoints=endpoints, backoff_max_s=0.5, client_id=name, share=share),
        IngestSection(receive_maximum=receive_maximum),
        tls=client_context(pki / "ca.crt", pki / f"{name}.crt", pki / f"{name}.key"),
        intake=Intake(
            store=store,
            registry=load_registry(pki / "registry.json"),
            recipient_keys={recipient.kid: recipient},
            signer=signer_for(load_private_key(pki / "receipt.key")),
            parked_limit=100,
            parked_per_gateway=100,
        ),
        key_list=(pki / "keys.cbor").read_bytes(),
        metrics=metrics,
        jetstream=jetstream,
    )
    async with running(worker.run()):
        yield store, metrics
    store.close()


def gateway(pki: Path, endpoint: str, *, name: str = GATEWAY, client_id: str | None = None) -> Connection:
    keys = pki / "gateways" / name
    return Connection(
        endpoint,
        client_id=client_id or name,
        tls=client_context(pki / "ca.crt", keys / "tls.crt", keys / "tls.key"),
        keepalive_s=20,
        timeout_s=10,
        clean_start=True,
        session_expiry_s=0,
        receive_maximum=100,
        will=None,
    )


def bundles(pki: Path, count: int) -> list[bytes]:
    writer = ChainWriter(
        gateway=GATEWAY,
        chain=os.urandom(16),
        signer=signer_for(load_private_key(pki / "gateways" / GATEWAY / "sign.key")),
        recipients=[load_recipient_key(pki / "recipient.key").recipient],
        predecessor=None,
        random=os.urandom,
    )
    now_ms = time.time_ns() // 1_000_000
    batch = Batch(os.urandom(16), (Record("C0:00:00:00:00:01", 1, 55, -1, now_ms),))
    return [writer.seal([batch], now_ms=now_ms)[0].data for _ in range(count)]


def value(metrics: ReceiverMetrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"iomt_receiver_{name}")


async def receipts_until(connection: Connection, pki: Path, last: int) -> list[Receipt]:
    """Receipts as they come, until one covers bundle `last`."""
    key = verify_key(load_private_key(pki / "receipt.key").public_key())
    receipts: list[Receipt] = []
    async with asyncio.timeout(10):
        async for message in connection.messages():
            message.ack()
            if message.topic.endswith("/receipt"):
                receipts.append(decode_receipt(message.payload, {key.kid: key}))
                if any(each.last >= last for each in receipts[-1].ranges):
                    break
    return receipts


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - looks at many parties, most of which know no event
            await asyncio.sleep(0.02)


async def connected(metrics: ReceiverMetrics) -> None:
    await until(lambda: value(metrics, "online"))
