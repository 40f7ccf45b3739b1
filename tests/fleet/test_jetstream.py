"""Bundles through a cluster of three NATS nodes, started as shipped."""

import asyncio
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from nats.aio.client import Client

from gateway.errors import BrokerUnreachableError, ConfigError, TlsRefusedError, UplinkError
from gateway.identity.tls import client_context
from gateway.lab.nats import Nodes, program
from gateway.lab.pki import make_dev_pki
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.config import JetStreamSection
from gateway.receiver.jetstream import STREAM, JetStream, connect, init_stream
from gateway.receiver.sqlite import SqliteStore
from tests.receiver.serving import GATEWAY, bundles, gateway, made_pki, receipts_until, receiving, until, value

pytestmark = pytest.mark.skipif(
    program() is None, reason="nats-server is not installed; on Debian: apt install nats-server"
)
START_S = 60.0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def nodes(pki: Path, tmp_path: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(tmp_path / "nats", pki, [GATEWAY])
    for number in range(3):
        await nodes.start(number)
    yield nodes
    await nodes.stop()


def tls(pki: Path) -> ssl.SSLContext:
    return client_context(pki / "ca.crt", pki / "receiver.crt", pki / "receiver.key")


def worker(
    pki: Path, directory: Path, nodes: Nodes, section: JetStreamSection
) -> AbstractAsyncContextManager[tuple[SqliteStore, ReceiverMetrics]]:
    return receiving(pki, directory, *nodes.mqtt, jetstream=section, receive_maximum=64)


async def published(pki: Path, nodes: Nodes, data: list[bytes]) -> None:
    """Publish to whichever node takes it, until each bundle is acknowledged."""
    rest = list(data)
    deadline = time.monotonic() + START_S
    while rest:
        for endpoint in nodes.mqtt:
            try:
                async with gateway(pki, endpoint) as sender:
                    while rest:
                        async with asyncio.timeout(5):
                            await sender.publish(f"v1/gw/{GATEWAY}/up/data", rest[0])
                        rest.pop(0)
            except (UplinkError, TimeoutError):
                assert time.monotonic() < deadline, nodes.last_words()


async def test_bundles_are_committed_and_receipted_and_acknowledged(pki: Path, nodes: Nodes, tmp_path: Path) -> None:
    section = await nodes.prepare(tls(pki))
    data = bundles(pki, 5)
    await published(pki, nodes, data[:2])
    async with (
        worker(pki, tmp_path / "state", nodes, section) as (store, metrics),
        gateway(pki, nodes.mqtt[0]) as sender,
    ):
        await sender.subscribe(f"v1/gw/{GATEWAY}/down/#")
        for each in data[2:]:
            await sender.publish(f"v1/gw/{GATEWAY}/up/data", each)
        receipts = await receipts_until(sender, pki, 4)
        assert receipts[-1].ranges[0].first == 0
        assert store.summary()["gateways"][GATEWAY]["bundles"] == 5
        await until(lambda: value(metrics, "messages_total") == 5)
        async with await connect(nodes.servers, tls=tls(pki), timeout_s=5) as client:
            await until_acknowledged(client, 0)


async def test_the_key_list_is_retained_for_gateways_that_connect_later(
    pki: Path, nodes: Nodes, tmp_path: Path
) -> None:
    section = await nodes.prepare(tls(pki))
    async with worker(pki, tmp_path / "state", nodes, section) as (_, metrics):
        await until(lambda: value(metrics, "online"))
        await published(pki, nodes, bundles(pki, 1))
        await until(lambda: value(metrics, "stored_bundles_total"))
    async with gateway(pki, nodes.mqtt[1]) as listener, asyncio.timeout(10):
        await listener.subscribe(f"v1/gw/{GATEWAY}/down/keys")
        [message] = await listener.receive(1)
        assert message.payload == (pki / "keys.cbor").read_bytes()


async def test_a_killed_node_costs_nothing(pki: Path, nodes: Nodes, tmp_path: Path) -> None:
    section = await nodes.prepare(tls(pki))
    data = bundles(pki, 40)
    async with worker(pki, tmp_path / "state", nodes, section) as (store, _):
        await published(pki, nodes, data[:20])
        for victim in range(2):
            await nodes.kill(victim)
            await published(pki, nodes, data[20 + 10 * victim : 30 + 10 * victim])
            await nodes.start(victim)
            await nodes.prepare(tls(pki))
        for _ in range(600):
            summary = store.summary()["gateways"].get(GATEWAY, {})
            if summary.get("bundles") == 40:
                break
            await asyncio.sleep(0.1)
        assert (summary["bundles"], summary["missing_bundles"], summary["forks"]) == (40, 0, 0)


async def test_a_cluster_without_a_leader_is_one_that_does_not_answer(pki: Path, nodes: Nodes) -> None:
    section = await nodes.prepare(tls(pki))
    await nodes.kill(1)
    await nodes.kill(2)
    retain = gateway(pki, nodes.mqtt[0], client_id=os.urandom(4).hex())
    with pytest.raises(BrokerUnreachableError):
        async with JetStream(section, tls=tls(pki), timeout_s=2, retain=retain):
            pass


async def test_what_a_worker_took_and_never_acknowledged_goes_to_another(pki: Path, nodes: Nodes) -> None:
    section = await nodes.prepare(tls(pki))
    data = bundles(pki, 3)
    await published(pki, nodes, data)

    def transport() -> JetStream:
        retain = gateway(pki, nodes.mqtt[0], client_id=os.urandom(4).hex())
        return JetStream(section, tls=tls(pki), timeout_s=5, retain=retain)

    async with transport() as first:
        taken = await first.receive(2)
        assert [each.payload for each in taken] == data[:2]
        assert {each.topic for each in taken} == {f"v1/gw/{GATEWAY}/up/data"}
        taken[0].ack()
    async with await connect(nodes.servers, tls=tls(pki), timeout_s=5) as client:
        await until_acknowledged(client, 1)


async def until_acknowledged(client: Client, pending: int) -> None:
    async with asyncio.timeout(10):
        while (await client.jetstream().consumer_info(STREAM, "receiver")).num_ack_pending != pending:  # noqa: ASYNC110 - the cluster tells when it is asked
            await asyncio.sleep(0.05)


async def test_a_stream_that_would_lose_messages_is_refused(pki: Path, nodes: Nodes) -> None:
    section = await nodes.prepare(tls(pki))
    assert await init_stream(section, tls=tls(pki), timeout_s=5) is False
    thrifty = section.model_copy(update={"replicas": 1})
    with pytest.raises(ConfigError, match="num_replicas"):
        await init_stream(thrifty, tls=tls(pki), timeout_s=5)


async def test_a_stream_that_is_missing_stops_a_worker_with_the_way_out(pki: Path, nodes: Nodes) -> None:
    section = await nodes.prepare(tls(pki))
    async with await connect(nodes.servers, tls=tls(pki), timeout_s=5) as client:
        await client.jetstream().delete_stream(STREAM)
    retain = gateway(pki, nodes.mqtt[0])
    with pytest.raises(ConfigError, match="init-stream"):
        async with JetStream(section, tls=tls(pki), timeout_s=5, retain=retain):
            pass


async def test_a_stranger_is_refused_and_nobody_listening_is_told(pki: Path, nodes: Nodes, tmp_path: Path) -> None:
    await nodes.prepare(tls(pki))
    make_dev_pki(tmp_path / "foreign", [])
    foreign = client_context(pki / "ca.crt", *(tmp_path / "foreign" / f"receiver.{kind}" for kind in ("crt", "key")))
    with pytest.raises((TlsRefusedError, BrokerUnreachableError)):
        await connect(nodes.servers, tls=foreign, timeout_s=3)
    await nodes.stop()
    with pytest.raises(BrokerUnreachableError):
        await connect(nodes.servers, tls=tls(pki), timeout_s=3)


def test_the_shipped_node_configuration_is_valid(pki: Path, tmp_path: Path) -> None:
    Nodes(tmp_path / "nats", pki, [GATEWAY])
    checked = subprocess.run(
        [str(program()), "-t", "-c", str(tmp_path / "nats" / "n0.conf")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
