"""systemd's watchdog is fed as long as every loop of a daemon gets on, and by none that is stuck."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.ble import bluetooth
from gateway.config import GatewayConfig, load
from gateway.lab.broker import DemoBroker
from gateway.lab.radio import VirtualRadio
from gateway.lab.site import GATEWAY, Site, build, free_port
from gateway.receiver import worker
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.intake import Intake
from gateway.supervisor import Gateway
from gateway.uplink.uplink import Uplink
from tests.receiver.serving import gateway

INTERVAL_S = 0.05
SILENCE_S = 0.6


class Manager:
    """What systemd hears."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def heard(self) -> list[bytes]:
        """Everything since the last call."""
        said = []
        with suppress(BlockingIOError):
            while True:
                said.append(self._listener.recv(100))
        return said

    async def hears(self, text: bytes) -> None:
        """From now on."""
        self.heard()
        async with asyncio.timeout(20):
            while text not in self.heard():  # noqa: ASYNC110 - what systemd hears has no event here
                await asyncio.sleep(INTERVAL_S)

    async def is_fed(self) -> None:
        await self.hears(b"WATCHDOG=1")

    async def is_fed_no_more(self) -> None:
        async with asyncio.timeout(20):
            await asyncio.sleep(SILENCE_S)
            while b"WATCHDOG=1" in self.heard():  # noqa: ASYNC110 - as above
                await asyncio.sleep(SILENCE_S)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(2e6 * INTERVAL_S)))
        yield Manager(listener)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    site = Site(Path(), broker_port=port, uplink_port=port)
    uplink = "connect_timeout_s = 0.4\nack_timeout_s = 0.4\n"
    build(site, devices={}, uplink_extra=uplink, gateway_extra="[outbox]\noffline_tick_ms = 10\n")
    return site


@asynccontextmanager
async def running(site: Site, radio: VirtualRadio | None = None) -> AsyncIterator[Gateway]:
    daemon = Gateway(load(site.gateway_config, GatewayConfig))
    task = asyncio.create_task(daemon.run(radio))
    async with asyncio.timeout(10):
        await daemon.outbox.grown()
    try:
        yield daemon
    finally:
        task.cancel()  # one that is stuck would not end in order
        with suppress(asyncio.CancelledError):
            await task


async def never(*_: object, **__: object) -> Any:
    await asyncio.Event().wait()


async def test_a_daemon_feeds_it_all_the_time_with_a_broker_or_without(site: Site, manager: Manager) -> None:
    async with running(site) as daemon:
        for _ in range(5):
            await manager.is_fed()
        broker = DemoBroker(site.pki, site.broker_port)
        await broker.start()
        async with asyncio.timeout(20):
            while not daemon.uplink.online:  # noqa: ASYNC110 - the uplink has no event for it
                await asyncio.sleep(0.05)
        for _ in range(5):
            await manager.is_fed()
        await broker.shutdown()


async def test_an_event_loop_that_does_not_turn_feeds_nothing(site: Site, manager: Manager) -> None:
    async with running(site):
        await manager.is_fed()
        manager.heard()
        time.sleep(10 * INTERVAL_S)  # noqa: ASYNC251 - this is the stall
        assert b"WATCHDOG=1" not in manager.heard()
        await manager.is_fed()


async def test_a_stuck_writer_of_the_outbox_stops_the_feeding_until_it_gets_on(
    site: Site, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(site) as daemon:
        await manager.is_fed()
        free = threading.Event()
        daemon.outbox._disk.submit(free.wait)
        try:
            await manager.is_fed_no_more()
        finally:
            free.set()
        assert "no progress of outbox" in caplog.text
        await manager.is_fed()


async def test_a_stuck_pipeline_stops_the_feeding(
    site: Site, manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(site) as daemon:
        await manager.is_fed()
        monkeypatch.setattr(daemon.pipeline, "flush", never)
        daemon.pipeline.event("start")
        await manager.is_fed_no_more()
        assert "no progress of pipeline: " in caplog.text


@pytest.mark.parametrize("where", ["_serve", "_send"])
async def test_a_stuck_uplink_stops_the_feeding(
    site: Site, manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    broker = DemoBroker(site.pki, site.broker_port)
    await broker.start()
    monkeypatch.setattr(Uplink, where, never)
    async with running(site):
        await manager.is_fed_no_more()
        assert "no progress of uplink: " in caplog.text
    await broker.shutdown()


async def test_a_stuck_adapter_stops_the_feeding_and_a_missing_one_does_not(
    site: Site, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_ACT_S", "_RETRY_S", "_RETRY_MAX_S"):
        monkeypatch.setattr(bluetooth, name, 0.2)
    async with running(site, VirtualRadio(tmp_path / "no-air", tmp_path / "bonds.json")) as daemon:
        for _ in range(10):
            await manager.is_fed()
        assert daemon.status().adapter == "down"
        monkeypatch.setattr(VirtualRadio, "open", never)
        await manager.is_fed_no_more()
        assert re.search("no progress of .*adapter", caplog.text)


@pytest.fixture
async def receiver(site: Site, manager: Manager) -> AsyncIterator[DemoBroker]:
    broker = DemoBroker(site.pki, site.broker_port)
    await broker.start()
    task = asyncio.create_task(worker.run(load(site.receiver_config, ReceiverConfig)))
    await manager.hears(b"READY=1")
    yield broker
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await broker.shutdown()


@pytest.mark.parametrize("stuck", ["store", "loop"])
async def test_a_receiver_that_is_stuck_stops_the_feeding(
    site: Site, manager: Manager, receiver: DemoBroker, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    await manager.is_fed()
    free = threading.Event()
    take: Callable[..., Any] = Intake.take

    def slow(*arguments: Any, **options: Any) -> Any:
        free.wait()
        return take(*arguments, **options)

    if stuck == "store":
        monkeypatch.setattr(Intake, "take", slow)
    else:
        monkeypatch.setattr(worker.Receiver, "_publish", never)
    async with gateway(site.pki, f"127.0.0.1:{receiver.port}", name=GATEWAY) as connection:
        connection.publish(f"v1/gw/{GATEWAY}/up/data", b"nonsense")
        try:
            await manager.is_fed_no_more()
        finally:
            free.set()
        if stuck == "store":
            await manager.is_fed()


async def test_a_receiver_without_a_broker_is_ready_and_feeds_it(site: Site, manager: Manager) -> None:
    task = asyncio.create_task(worker.run(load(site.receiver_config, ReceiverConfig)))
    await manager.hears(b"READY=1")
    for _ in range(3):
        await manager.is_fed()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
