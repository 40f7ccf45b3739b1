"""Two workers divide the bundles of a broker by a shared subscription, mosquitto as shipped."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.lab import mosquitto, pki
from gateway.lab.process import Child
from gateway.lab.site import free_port
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.ca.issue import profiles
from gateway.receiver.sqlite import SqliteStore
from tests.receiver.serving import (
    GATEWAY,
    bundles,
    connected,
    gateway,
    made_pki,
    receipts_until,
    receiving,
    until,
    value,
)

pytestmark = pytest.mark.skipif(
    mosquitto.program() is None, reason="mosquitto is not installed; on Debian: apt install mosquitto"
)
WORKERS = ("receiver.1", "receiver.2")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A throw-away PKI with a certificate for each worker."""
    directory = made_pki(tmp_path / "pki")
    now = dt.datetime.now(dt.UTC)
    for name in WORKERS:
        issuer = pki._make_ca(directory, now)
        pki._make_certificate(directory, name, profiles()["receiver"], name, issuer=issuer, now=now, hosts=())
    return directory


@pytest.fixture
async def port(keys: Path, tmp_path: Path) -> AsyncIterator[int]:
    state = tmp_path / "broker"
    state.mkdir()
    port = free_port()
    command = mosquitto.command(keys, state, port)
    with (state / "acl").open("a") as acl:
        for name in WORKERS:
            acl.write(f"\nuser {name}\ntopic read v1/gw/+/up/#\ntopic write v1/gw/+/down/#\n")
    broker = await Child.run("broker", *command, logs=tmp_path)
    yield port
    await broker.stop()


@asynccontextmanager
async def worker(
    name: str, keys: Path, directory: Path, port: int
) -> AsyncIterator[tuple[SqliteStore, ReceiverMetrics]]:
    async with receiving(keys, directory, f"127.0.0.1:{port}", name=name, share="workers") as (store, metrics):
        await connected(metrics)
        yield store, metrics


async def test_two_workers_divide_the_bundles_and_one_that_returns_takes_up_what_waited(
    keys: Path, port: int, tmp_path: Path
) -> None:
    data = bundles(keys, 120)
    state = tmp_path / "state"
    async with worker(WORKERS[0], keys, state, port) as (store, first), gateway(keys, f"127.0.0.1:{port}") as sender:
        await sender.subscribe(f"v1/gw/{GATEWAY}/down/receipt")
        async with worker(WORKERS[1], keys, state, port) as (_, second):
            await asyncio.gather(*(sender.publish(f"v1/gw/{GATEWAY}/up/data", each) for each in data[:80]))
            await until(lambda: store.summary()["gateways"].get(GATEWAY, {}).get("bundles") == 80)
            await until(lambda: sum(value(each, "messages_total") or 0 for each in (first, second)) == 80)
            assert value(first, "messages_total")
            assert value(second, "messages_total")
        # The session of the second worker lives on: what the broker keeps for it is taken when it returns.
        await asyncio.gather(*(sender.publish(f"v1/gw/{GATEWAY}/up/data", each) for each in data[80:]))
        async with worker(WORKERS[1], keys, state, port):
            await receipts_until(sender, keys, 119)
            await until(lambda: store.summary()["gateways"][GATEWAY]["bundles"] == 120)
    assert value(first, "redelivered_bundles_total") == 0
