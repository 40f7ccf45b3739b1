"""Gateway, mosquitto and receivers, all real: what a receiver loses or never had, the gateway still has."""

import asyncio
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.envelope.keys import signer_for
from gateway.identity.files import load_private_key, load_recipient_key, load_registry, verify_key
from gateway.identity.tls import client_context
from gateway.lab import mosquitto
from gateway.lab.pki import make_dev_pki
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.config import IngestSection, ReceiverBrokerSection
from gateway.receiver.intake import Intake
from gateway.receiver.sqlite import SqliteStore, read_summary
from gateway.receiver.store import next_incarnation
from gateway.receiver.worker import Receiver
from tests.uplink.conftest import Broker, eventually, free_port, tls_of
from tests.uplink.test_trouble import issue
from tests.uplink.test_uplink import GATEWAY, Box, make_box, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if mosquitto.program() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    pki, state = tmp_path / "pki", tmp_path / "broker"
    state.mkdir()
    make_dev_pki(pki, [GATEWAY])
    broker = Broker("mosquitto", pki, state, free_port())
    broker.start()
    acl = state / "acl"
    rules = acl.read_text()
    acl.write_text(rules + rules[rules.index("user receiver") :].replace("user receiver", "\nuser receiver.2"))
    assert broker.process
    with socket.create_connection(("127.0.0.1", broker.port)) as plain:  # what answers also listens to signals
        tls_of(pki, "receiver").wrap_socket(plain, server_hostname="localhost").close()
    broker.process.send_signal(signal.SIGHUP)
    yield broker
    broker.kill()


@pytest.fixture
def box(broker: Broker, tmp_path: Path) -> Box:
    return make_box(broker.pki, tmp_path / "box", receipt_timeout_s=0.5)


@asynccontextmanager
async def receiver(
    broker: Broker, directory: Path, *, name: str = "receiver", receipt_key: str = "receipt", share: str = ""
) -> AsyncIterator[tuple[SqliteStore, ReceiverMetrics]]:
    store, metrics, pki = SqliteStore.open(directory), ReceiverMetrics(), broker.pki
    recipient = load_recipient_key(pki / "recipient.key")
    worker = Receiver(
        ReceiverBrokerSection(endpoints=(broker.endpoint,), backoff_max_s=0.5, client_id=name, share=share),
        IngestSection(receive_maximum=8),
        tls=client_context(pki / "ca.crt", pki / f"{name}.crt", pki / f"{name}.key"),
        intake=Intake(
            store=store,
            registry=load_registry(pki / "registry.json"),
            recipient_keys={recipient.kid: recipient},
            signer=signer_for(load_private_key(pki / f"{receipt_key}.key")),
            parked_limit=100,
            parked_per_gateway=100,
        ),
        key_list=(pki / "keys.cbor").read_bytes(),
        metrics=metrics,
    )
    task = asyncio.create_task(worker.run())
    try:
        await eventually(lambda: bool(value(metrics, "online")))
        yield store, metrics
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        store.close()


def value(metrics: ReceiverMetrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"iomt_receiver_{name}") or 0.0


def bundles(directory: Path) -> int:
    gateways = read_summary(directory)["gateways"]
    return int(gateways[GATEWAY]["bundles"]) if gateways else 0


def second_receiver(broker: Broker, box: Box) -> None:
    """A certificate and a receipt key for it, which the gateway believes too."""
    issue(broker.pki, broker.pki, "receiver.2", -1, 9)
    make_dev_pki(broker.pki / "other", [GATEWAY])
    shutil.copy(broker.pki / "other" / "receipt.key", broker.pki / "receipt-2.key")
    key = verify_key(load_private_key(broker.pki / "receipt-2.key").public_key())
    box.uplink.receivers = {**box.uplink.receivers, key.kid: key}


async def test_a_receiver_restored_from_a_backup_gets_what_it_lacks(broker: Broker, box: Box, tmp_path: Path) -> None:
    live, backup = tmp_path / "live", tmp_path / "backup"
    async with running(box, broker.endpoint):
        async with receiver(broker, live):
            await box.seal(10)
            await eventually(lambda: box.waiting == 0)
        shutil.copytree(live, backup)
        async with receiver(broker, live):
            await box.seal(20)
            await eventually(lambda: box.waiting == 0)
        assert (bundles(live), bundles(backup)) == (30, 10)
        shutil.copy(live / "incarnation", backup / "incarnation")
        next_incarnation(backup)
        async with receiver(broker, backup):
            await box.seal(1)
            await eventually(lambda: box.waiting == 0 and bundles(backup) == 31)


async def test_a_receiver_killed_between_commit_and_receipt_owes_nothing(
    broker: Broker, box: Box, tmp_path: Path
) -> None:
    pki = broker.pki
    config = tmp_path / "receiver.toml"
    config.write_text(
        f"""
        [receiver]
        state_dir = "state"
        registry = "{pki}/registry.json"
        recipient_keys = ["{pki}/recipient.key"]
        receipt_key = "{pki}/receipt.key"
        key_list = "{pki}/keys.cbor"
        [tls]
        ca = "{pki}/ca.crt"
        cert = "{pki}/receiver.crt"
        key = "{pki}/receiver.key"
        [broker]
        endpoints = ["{broker.endpoint}"]
        [metrics]
        listen = "off"
        """
    )
    async with running(box, broker.endpoint):
        for times in range(1, 4):
            command = [sys.executable, "-m", "tests.receiver.child_receiver", str(config)]
            child = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
            await box.seal(2)
            async with asyncio.timeout(30):
                assert await child.wait() == -signal.SIGKILL
            assert bundles(tmp_path / "state") > 0
            assert box.waiting == 2 * times
        async with receiver(broker, tmp_path / "state") as (_, metrics):
            await eventually(lambda: box.waiting == 0)
            await eventually(lambda: value(metrics, "redelivered_bundles_total") > 0)
    assert bundles(tmp_path / "state") == 6


async def test_the_outbox_forgets_nothing_that_one_of_two_required_stores_lacks(
    broker: Broker, box: Box, tmp_path: Path
) -> None:
    second_receiver(broker, box)
    box.outbox.require(2)
    first, second = tmp_path / "first", tmp_path / "second"
    async with running(box, broker.endpoint), receiver(broker, first):
        await box.seal(5)
        await eventually(lambda: bundles(first) == 5)
        await asyncio.sleep(1)
        assert box.waiting == 5
        async with receiver(broker, second, name="receiver.2", receipt_key="receipt-2"):
            await eventually(lambda: box.waiting == 0)
        await box.seal(3)
        await eventually(lambda: bundles(first) == 8)
        assert box.waiting == 3
    assert bundles(second) == 5


async def test_a_second_receiver_with_an_empty_database_does_not_lock_the_first_out(
    broker: Broker, box: Box, tmp_path: Path
) -> None:
    second_receiver(broker, box)
    stray = receiver(broker, tmp_path / "stray", name="receiver.2", receipt_key="receipt-2")
    async with running(box, broker.endpoint), receiver(broker, tmp_path / "first"):
        await box.seal(3)
        await eventually(lambda: box.waiting == 0)
        async with stray:
            box.writer.end_segment()  # so that the stray one has the keys of what follows
            await box.outbox.roll()
            await box.seal(3)
            await eventually(lambda: box.count("receipt_errors_total", cause="another-store") > 0)
            await eventually(lambda: box.waiting == 0)
        await box.seal(3)
        await eventually(lambda: box.waiting == 0)
    assert bundles(tmp_path / "first") == 9


@pytest.mark.parametrize("share", ["", "receivers"])
async def test_two_receivers_of_one_store_take_each_bundle_once(
    broker: Broker, box: Box, tmp_path: Path, share: str
) -> None:
    second_receiver(broker, box)
    shared = tmp_path / "shared"
    async with (
        running(box, broker.endpoint),
        receiver(broker, shared, share=share) as (_, mine),
        receiver(broker, shared, name="receiver.2", receipt_key="receipt-2", share=share) as (_, other),
    ):
        for _ in range(20):
            await box.seal(2)
            await asyncio.sleep(0.02)
        await eventually(lambda: box.waiting == 0)
        both = (mine, other)
        await eventually(lambda: sum(value(each, "messages_total") for each in both) >= (40 if share else 80))
        assert all(value(each, "messages_total") for each in both)
        stored = value(mine, "stored_bundles_total") + value(other, "stored_bundles_total")
    assert (bundles(shared), stored) == (40, 40)


async def test_a_database_that_refuses_stops_receipts_and_loses_nothing(
    broker: Broker, box: Box, tmp_path: Path
) -> None:
    async with running(box, broker.endpoint), receiver(broker, tmp_path / "state") as (store, metrics):
        store._database.execute("PRAGMA query_only = ON")
        await box.seal(30)
        await eventually(lambda: value(metrics, "store_errors_total") > 1)
        assert (box.waiting, value(metrics, "receipts_total")) == (30, 0)
        store._database.execute("PRAGMA query_only = OFF")
        await eventually(lambda: box.waiting == 0)
    assert bundles(tmp_path / "state") == 30
