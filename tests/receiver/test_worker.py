"""The receiver behind a broker: persistent session, acknowledgement after the commit, receipts at once."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import IdentityError
from gateway.lab.broker import DemoBroker
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.sqlite import DATABASE, SqliteStore
from gateway.receiver.worker import _bunches, run
from gateway.uplink.client import Message
from gateway.uplink.mqtt import Connection
from tests.receiver import serving
from tests.receiver.serving import (
    GATEWAY,
    bundles,
    connected,
    made_pki,
    receipts_until,
    receiving,
    running,
    until,
    value,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def broker(pki: Path) -> AsyncIterator[DemoBroker]:
    broker = DemoBroker(pki, 0)
    await broker.start()
    yield broker
    await broker.shutdown()


def receiver(pki: Path, directory: Path, port: int) -> AbstractAsyncContextManager[tuple[SqliteStore, ReceiverMetrics]]:
    return receiving(pki, directory, f"127.0.0.1:{port}")


def gateway(pki: Path, port: int) -> Connection:
    return serving.gateway(pki, f"127.0.0.1:{port}")


async def test_bundles_are_committed_and_receipted_over_the_broker(
    pki: Path, broker: DemoBroker, tmp_path: Path
) -> None:
    data = bundles(pki, 5)
    async with receiver(pki, tmp_path, broker.port) as (store, metrics), gateway(pki, broker.port) as connection:
        await connected(metrics)
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/#")
        for each in (b"nonsense", *data, data[0]):
            connection.publish(f"v1/gw/{GATEWAY}/up/data", each)
        receipts = await receipts_until(connection, pki, 4)
        assert receipts[-1].ranges[0].first == 0
        assert [each.counter for each in receipts] == sorted({each.counter for each in receipts})
        await until(lambda: value(metrics, "messages_total") == 7)
        assert store.summary()["gateways"][GATEWAY]["bundles"] == 5
        assert value(metrics, "stored_readings_total") == 5
        assert value(metrics, "redelivered_bundles_total") == 1
        assert value(metrics, "silent_chains") == 0
        labels = {"cause": "malformed"}
        assert metrics.registry.get_sample_value("iomt_receiver_verify_failures_total", labels) == 1


async def test_a_parked_bundle_is_receipted_as_soon_as_its_epoch_arrives(
    pki: Path, broker: DemoBroker, tmp_path: Path
) -> None:
    opener, needs = bundles(pki, 2)
    async with receiver(pki, tmp_path, broker.port) as (_, metrics), gateway(pki, broker.port) as connection:
        await connected(metrics)
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/receipt")
        connection.publish(f"v1/gw/{GATEWAY}/up/data", needs)
        await until(lambda: value(metrics, "parked_bundles"))
        connection.publish(f"v1/gw/{GATEWAY}/up/data", opener)
        await receipts_until(connection, pki, 1)
        await until(lambda: not value(metrics, "parked_bundles"))


async def test_every_registered_gateway_finds_the_key_list_retained(
    pki: Path, broker: DemoBroker, tmp_path: Path
) -> None:
    async with receiver(pki, tmp_path, broker.port) as (_, metrics):
        await connected(metrics)
        await asyncio.sleep(0.2)
        async with gateway(pki, broker.port) as connection, asyncio.timeout(30):
            await connection.subscribe(f"v1/gw/{GATEWAY}/down/#")
            [message] = await connection.receive(1)
            assert message.topic == f"v1/gw/{GATEWAY}/down/keys"
            assert message.payload == (pki / "keys.cbor").read_bytes()


async def test_nothing_is_receipted_while_the_database_refuses_and_nothing_is_lost(
    pki: Path, broker: DemoBroker, tmp_path: Path
) -> None:
    data = bundles(pki, 3)
    async with receiver(pki, tmp_path, broker.port) as (store, metrics), gateway(pki, broker.port) as connection:
        await connected(metrics)
        store._database.execute("PRAGMA query_only = ON")
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/receipt")
        for each in data:
            connection.publish(f"v1/gw/{GATEWAY}/up/data", each)
        await until(lambda: value(metrics, "store_errors_total"))
        assert not value(metrics, "receipts_total")
        store._database.execute("PRAGMA query_only = OFF")
        receipts = await receipts_until(connection, pki, 2)
        assert receipts[-1].ranges[0].last == 2
        assert store.summary()["gateways"][GATEWAY]["bundles"] == 3


async def test_what_is_sent_while_no_receiver_runs_waits_for_it(pki: Path, broker: DemoBroker, tmp_path: Path) -> None:
    data = bundles(pki, 3)
    async with receiver(pki, tmp_path, broker.port) as (_, metrics):
        await connected(metrics)
    async with gateway(pki, broker.port) as connection:
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/receipt")
        await asyncio.gather(*(connection.publish(f"v1/gw/{GATEWAY}/up/data", each) for each in data))
        async with receiver(pki, tmp_path, broker.port):
            receipts = await receipts_until(connection, pki, 2)
    assert receipts[-1].ranges[0].first == 0


async def test_a_lost_connection_is_made_again(pki: Path, tmp_path: Path) -> None:
    broker = DemoBroker(pki, 0)
    await broker.start()
    async with receiver(pki, tmp_path, broker.port) as (store, metrics):
        await connected(metrics)
        port = broker.port
        await broker.shutdown()
        await until(lambda: not value(metrics, "online"))
        again = DemoBroker(pki, port)
        await again.start()
        await connected(metrics)
        async with gateway(pki, port) as connection:
            connection.publish(f"v1/gw/{GATEWAY}/up/data", bundles(pki, 1)[0])
            await until(store.last_received_ms)
        labels = {"cause": "closed"}
        assert (metrics.registry.get_sample_value("iomt_receiver_reconnects_total", labels) or 0) >= 1
        await again.shutdown()


async def test_a_gateway_that_has_been_quiet_for_twice_its_heartbeat_is_counted(
    pki: Path, broker: DemoBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundles(pki, 2)
    async with receiver(pki, tmp_path, broker.port) as (store, metrics), gateway(pki, broker.port) as connection:
        await connected(metrics)
        connection.publish(f"v1/gw/{GATEWAY}/up/data", first)
        await until(store.last_received_ms)
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute("UPDATE bundles SET received_ms = received_ms - 140000")
    database.close()
    monkeypatch.setattr("gateway.receiver.worker._SILENCE_CHECK_S", 0.05)
    async with receiver(pki, tmp_path, broker.port) as (_, metrics), gateway(pki, broker.port) as connection:
        assert value(metrics, "silent_chains") == 1
        await until(lambda: [each for each in caplog.messages if "has fallen silent" in each])
        connection.publish(f"v1/gw/{GATEWAY}/up/data", second)
        await until(lambda: [each for each in caplog.messages if "is heard again" in each])
        assert value(metrics, "silent_chains") == 0
    assert len([each for each in caplog.messages if "has fallen silent" in each]) == 1


async def test_run_serves_what_its_configuration_names(pki: Path, broker: DemoBroker, tmp_path: Path) -> None:
    config = ReceiverConfig.model_validate(
        {
            "receiver": {
                "state_dir": tmp_path / "state",
                "registry": pki / "registry.json",
                "recipient_keys": (pki / "recipient.key",),
                "receipt_key": pki / "receipt.key",
                "key_list": pki / "keys.cbor",
            },
            "tls": {"ca": pki / "ca.crt", "cert": pki / "receiver.crt", "key": pki / "receiver.key"},
            "broker": {"endpoints": (f"127.0.0.1:{broker.port}",)},
            "metrics": {"listen": "off"},
        }
    )
    async with gateway(pki, broker.port) as connection:
        await connection.subscribe(f"v1/gw/{GATEWAY}/down/#")
        async with running(run(config)), asyncio.timeout(30):
            [keys] = await connection.receive(1)
            keys.ack()
            connection.publish(f"v1/gw/{GATEWAY}/up/data", bundles(pki, 1)[0])
            receipts = await receipts_until(connection, pki, 0)
    assert receipts[0].gateway == GATEWAY
    missing = config.receiver.model_copy(update={"key_list": tmp_path / "missing"})
    with pytest.raises(IdentityError, match="missing"):
        await run(config.model_copy(update={"receiver": missing}))


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_what_waited_is_taken_in_order_and_in_bounded_transactions(sizes: list[int]) -> None:
    waiting = [Message(f"v1/gw/{place}/up/data", bytes(size), ack=lambda: None) for place, size in enumerate(sizes)]
    bunches = list(_bunches(waiting))
    assert [message for bunch in bunches for message in bunch] == waiting
    totals = [sum(len(each.payload) for each in bunch) for bunch in bunches]
    assert all(len(bunch) == 1 or total <= 131_072 for bunch, total in zip(bunches, totals, strict=True))
    assert all(here + len(after[0].payload) > 131_072 for here, after in zip(totals, bunches[1:], strict=False))
