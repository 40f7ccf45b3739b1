"""Wearables whose clocks are wrong, a gateway that boots without one: in the receiver's store every time is true.

Gateway, radio, broker and receiver are real; what the machine's own clocks show is played, as they can't be set here.
"""

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.clock.keeper import Sample
from gateway.clock.system import SystemClocks, boot_clock_ms, wall_clock_ms
from gateway.config import GatewayConfig, load
from gateway.lab.air import Air
from gateway.lab.bonds import BondStore
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS, Cgm, CgmPace, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import LedgerWriter
from gateway.lab.process import Child
from gateway.lab.radio import VirtualRadio
from gateway.lab.site import Site, build, free_port
from gateway.model import TimeSource
from gateway.receiver.sqlite import DATABASE
from gateway.supervisor import Gateway

DEADLINE_S = 60.0
YEAR_S = 365 * 86_400.0
DEVICES = {CGM_ADDRESS: "cgm", GLS_ADDRESS: "gls", PLX_ADDRESS: "plx"}
_READINGS = "SELECT device, session, sequence, time_ms, extras FROM readings"


@dataclass
class Machine:
    """The clocks of the box; a boot lasts until `reboot`, and nobody sets the wall clock before `synchronise`."""

    boot: bytes = b"a" * 16
    booted_ms: int = 0
    ahead_ms: int = -7 * 86_400_000
    synchronised: bool = False

    def clocks(self) -> SystemClocks:
        return SystemClocks(boot=self.boot, boot_ms=self._boot_ms, sample=self._sample)

    def _boot_ms(self) -> int:
        return boot_clock_ms() - self.booted_ms

    def _sample(self) -> Sample:
        return Sample(self._boot_ms(), wall_clock_ms() + self.ahead_ms, 5 if self.synchronised else None)

    def synchronise(self) -> None:
        self.ahead_ms, self.synchronised = 0, True

    def reboot(self) -> None:
        self.boot, self.booted_ms = b"b" * 16, boot_clock_ms() - 30_000


class Ward:
    """Three wearables, and what they say of when they measured."""

    def __init__(self, site: Site) -> None:
        self._ledger_path = site.ledger
        self.air = Air()
        self.ledger = LedgerWriter(site.ledger)
        pace = CgmPace(session_age_s=7_200, lag_min=0, minute_s=60.0, interval_min=5)
        self.cgm = Cgm(self.air.link, ledger=self.ledger, seed=3, pace=pace)
        self.meter = GlucoseMeter(self.air.link, ledger=self.ledger, seed=3, clock_error_s=37 * 60)
        self.oximeter = PulseOximeter(self.air.link, ledger=self.ledger, seed=3)

    async def measure(self) -> None:
        """One value of meter and oximeter."""
        await self.meter.measure()
        await self.oximeter.measure()

    def measured_ms(self) -> dict[tuple[str, str | None, int | None], int]:
        """When each record was measured that has a number."""
        lines = [json.loads(line) for line in self._ledger_path.read_text().splitlines()]
        return {(it["device"], it["session"], it["sequence"]): it["sent_ms"] for it in lines if it.get("values")}

    def pulses_ms(self) -> list[int]:
        """When the oximeter measured."""
        lines = [json.loads(line) for line in self._ledger_path.read_text().splitlines()]
        return [it["sent_ms"] for it in lines if it.get("kind") == "plx"]


def stored(site: Site) -> list[tuple[str, str | None, int | None, int, dict[str, int]]]:
    path = site.receiver_state / DATABASE
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return [(*row, json.loads(extras)) for *row, extras in database.execute(_READINGS)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the store is another process's
            await asyncio.sleep(0.1)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.chdir(tmp_path)  # paths of Unix sockets are short
    port = free_port()
    site = Site(Path(), broker_port=port, uplink_port=port)
    build(site, devices=DEVICES, gateway_extra="[outbox]\ntick_ms = 20\n")
    site.gateway_config.write_text(site.gateway_config.read_text().replace('believe = "system"', 'believe = "auto"'))
    async with AsyncExitStack() as stack:
        arguments = ("--pki", str(site.pki), "--port", str(site.broker_port))
        broker = await Child.start("broker", "gateway.lab.broker", *arguments, logs=site.logs)
        stack.push_async_callback(broker.stop)
        receiver = ("gateway.cli.receiver", "run", "--config", str(site.receiver_config))
        child = await Child.serve("receiver", *receiver, logs=site.logs)
        stack.push_async_callback(child.stop)
        yield site


@pytest.fixture
async def ward(site: Site) -> AsyncIterator[Ward]:
    ward = Ward(site)
    await ward.air.serve(site.radio)
    for wearable in (ward.cgm, ward.meter, ward.oximeter):
        if keys := await BondStore(site.bonds).get(wearable.address):
            await wearable.take_bond(keys)
        await wearable.start()
    yield ward
    await ward.air.close()
    for wearable in (ward.cgm, ward.meter, ward.oximeter):
        await wearable.stop()
    ward.ledger.close()


@asynccontextmanager
async def running(site: Site, machine: Machine) -> AsyncIterator[Gateway]:
    """One process of the gateway, from start to an orderly end."""
    gateway = Gateway(load(site.gateway_config, GatewayConfig), clocks=machine.clocks())
    task = asyncio.create_task(gateway.run(VirtualRadio(site.radio, site.bonds)))
    try:
        yield gateway
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_every_time_in_the_store_is_true_within_its_uncertainty(site: Site, ward: Ward) -> None:
    machine = Machine()

    def sources(device: str) -> list[int]:
        return [extras["1"] for row_device, _, _, _, extras in stored(site) if row_device == device]

    async def listened() -> None:
        await until(lambda: bool(ward.oximeter.subscribed()) and bool(ward.meter.subscribers(ward.meter._measurement)))

    await ward.meter.measure()
    async with running(site, machine):
        await listened()
        await ward.measure()
        await until(lambda: all(sources(device) for device in DEVICES) and len(sources(GLS_ADDRESS)) >= 2)
        assert {source for device in DEVICES for source in sources(device)} == {TimeSource.BOOT}
    ward.meter.set_clock(-26 * YEAR_S)
    async with running(site, machine):
        await listened()
        await ward.measure()
        await until(lambda: len(sources(GLS_ADDRESS)) >= 3)
        machine.synchronise()
        await until(lambda: {source for device in DEVICES for source in sources(device)} == {TimeSource.ANCHORED})
    machine.reboot()
    async with running(site, machine):
        await listened()
        await ward.measure()
        await until(lambda: len(sources(GLS_ADDRESS)) >= 4 and TimeSource.RECEIVED in sources(PLX_ADDRESS))

    measured_ms, pulses_ms = ward.measured_ms(), ward.pulses_ms()
    rows = stored(site)
    for device, session, sequence, time_ms, extras in rows:
        true_ms = measured_ms[device, session, sequence] if sequence is not None else nearest(pulses_ms, time_ms)
        assert abs(time_ms - true_ms) <= extras["2"], (device, sequence)
        if device == GLS_ADDRESS:
            assert extras["2"] < 30_000
    assert {sequence for device, _, sequence, _, _ in rows if device == GLS_ADDRESS} == {0, 1, 2, 3}
    assert len([row for row in rows if row[0] == CGM_ADDRESS]) == 25


def nearest(times_ms: list[int], time_ms: int) -> int:
    return min(times_ms, key=lambda each: abs(each - time_ms))
