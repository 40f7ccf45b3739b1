"""A simulated week: virtual wearables on a real Bluetooth stack, a gateway that is killed, a receiver that is away.

Everything that happens follows from a seed. Real: bumble's controllers, hosts, pairing and GATT, collector, pipeline,
envelope, outbox on disk, receiver's ingest and SQLite. Virtual: time, and the network between outbox and ingest.
"""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from gateway.ble.collector import Backfill
from gateway.ble.healing import LinkState
from gateway.clock.keeper import Sample
from gateway.clock.system import SystemClocks
from gateway.config import BleSection, GatewayConfig, load
from gateway.envelope.keys import signer_for
from gateway.envelope.receipt import decode_receipt
from gateway.identity.files import load_private_key, load_recipient_key, load_registry
from gateway.lab.air import Air
from gateway.lab.bonds import BondStore
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS, Cgm, CgmPace, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import LedgerWriter, Peripheral
from gateway.lab.radio import VirtualRadio
from gateway.lab.record_access import RecordStore
from gateway.lab.site import GATEWAY, Site, build
from gateway.model import Extra
from gateway.receiver.intake import Intake
from gateway.receiver.plan import Message
from gateway.receiver.sqlite import DATABASE, SqliteStore
from gateway.supervisor import Gateway

from .virtual_time import VirtualLoop

STARTS_MS = 1_800_000_000_000
HOUR_S, DAY_S = 3_600.0, 86_400.0
WEEK_S = 7 * DAY_S
TICK_MS = 2_000
_PROFILES = {CGM_ADDRESS: "cgm", GLS_ADDRESS: "gls", PLX_ADDRESS: "plx"}

_GATEWAY_TOML = f"""
[outbox]
tick_ms = {TICK_MS}
offline_tick_ms = {TICK_MS}

[envelope]
epoch_max_s = 86400
heartbeat_s = 3600
"""
_BLE = BleSection(connect_timeout_s=25.0, retry_max_s=240.0, silent_s=DAY_S, adapter_silent_s=DAY_S)
"""Nobody else is on this air, and the wearables seldom speak: silence is no sign of a fault."""
_CLOCK_ERRORS_S = (0.0, HOUR_S, -366 * DAY_S, 366 * DAY_S, -9_000 * DAY_S)
_EXPOSURE_MS = TICK_MS + 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """What a wearable's ledger says of one value, or what the store has of it."""

    device: str
    metric: int
    sequence: int | None
    value: Decimal | None
    time_ms: int
    uncertainty_ms: int | None = None
    """None: not stated."""
    kept: bool = True
    """The wearable stores it, or the store has it from there."""

    @property
    def identity(self) -> tuple[str, int, int | None, Decimal | None]:
        """What tells it from others, but for those with the same value."""
        return self.device, self.metric, self.sequence, self.value


class Box:
    """The gateway between radio and network; `kill` leaves what was durable."""

    def __init__(self, world: "World") -> None:
        self._world = world
        clocks = SystemClocks(world.rng.randbytes(16), world.boot_ms, world.sample)
        config = load(world.site.gateway_config, GatewayConfig).model_copy(update={"ble": _BLE})
        self.gateway = Gateway(config, clocks=clocks)
        self.gateway.clock.look()
        self._flush = self.gateway.pipeline.flush
        self.gateway.pipeline.flush = self._steady_flush  # type: ignore[method-assign] # time must wait for the disk

    async def _steady_flush(self) -> None:
        with self._world.loop.held():
            await self._flush()

    async def start(self) -> None:
        """Attach to the air and collect."""
        gateway = self.gateway
        radio = VirtualRadio(self._world.site.radio, self._world.site.bonds)
        # All that `run` does, without signals, control socket and broker.
        collecting = gateway._collect(radio)
        self._tasks = [asyncio.create_task(gateway.pipeline.run()), asyncio.create_task(collecting)]

    @property
    def running(self) -> bool:
        return not any(task.done() for task in self._tasks)

    async def kill(self) -> None:
        """What was not durable is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()
        self.gateway.outbox.close()
        for cause in ("link", "procedure"):
            sample = self.gateway.metrics.registry.get_sample_value(
                "iomt_gateway_device_errors_total", {"cause": cause}
            )
            self._world.errors[cause] += int(sample or 0)


class World:
    """The wearables, whoever carries them about, and both ends of the network."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.directory = directory
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.errors: Counter[str] = Counter()
        self.killed_ms: list[int] = []
        self.site = Site(directory, broker_port=1, uplink_port=1)
        build(self.site, devices=_PROFILES, gateway_extra=_GATEWAY_TOML)
        self.air = Air()
        self.ledger = LedgerWriter(self.site.ledger, now_ms=self.now_ms)
        pace = CgmPace(session_age_s=HOUR_S, lag_min=0, minute_s=60.0, interval_min=5)
        self.cgm = Cgm(self.air.link, ledger=self.ledger, seed=seed, pace=pace)
        self.meter = GlucoseMeter(self.air.link, ledger=self.ledger, seed=seed)
        self.meter.sequence = 65_536 - 20
        self.oximeter = PulseOximeter(self.air.link, ledger=self.ledger, seed=seed)
        self.wearables: tuple[Peripheral, ...] = (self.cgm, self.meter, self.oximeter)
        pki = self.site.pki
        key = load_recipient_key(pki / "recipient.key")
        self._intake = Intake(
            store=SqliteStore.open(self.site.receiver_state),
            registry=load_registry(pki / "registry.json"),
            recipient_keys={key.kid: key},
            signer=signer_for(load_private_key(pki / "receipt.key")),
            parked_limit=1_000,
            parked_per_gateway=1_000,
        )

    def now_ms(self) -> int:
        """The true time."""
        return STARTS_MS + int(self.loop.time() * 1000)

    def boot_ms(self) -> int:
        """The gateway booted a minute before."""
        return 60_000 + int(self.loop.time() * 1000)

    def sample(self) -> Sample:
        """The gateway's clock is right."""
        return Sample(self.boot_ms(), self.now_ms(), error_ms=20)

    def deliver(self) -> None:
        """The network and the receiver, in one step."""
        outbox, keys = self.box.gateway.outbox, self.box.gateway.keys
        while waiting := outbox.unreceipted(-1, 64):
            messages = [Message(GATEWAY, outbox.load(stored)) for stored in waiting]
            for _, receipt in self._intake.take(messages, now_ms=self.now_ms()).receipts:
                outbox.apply(decode_receipt(receipt, keys.receivers))

    async def run(self) -> None:
        """Live through the week, then let everything come home."""
        await self.air.serve(self.site.radio)
        for wearable in self.wearables:
            if keys := await BondStore(self.site.bonds).get(wearable.address):
                await wearable.take_bond(keys)
            await wearable.start()
        self.box = Box(self)
        await self.box.start()
        fates = [self._sense(), self._prick(), self._finger(), self._restart(), self._deliver_now_and_then()]
        fates += [self._wander(wearable) for wearable in self.wearables]
        fates += [self._lie(self.cgm.store), self._lie(self.meter.store), self._change_clocks(), self._renew()]
        tasks = [asyncio.create_task(fate) for fate in fates]
        await asyncio.sleep(WEEK_S)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        await self._come_home()

    async def _come_home(self) -> None:
        for store in (self.cgm.store, self.meter.store):
            store.answer = store.serve
        for wearable in self.wearables:
            if not wearable.device.is_advertising and not wearable.device.connections:
                await wearable.come()
        if not self.box.running:
            self.box = Box(self)
            await self.box.start()
        await asyncio.sleep(HOUR_S)
        self.deliver()
        await self.box.kill()
        for wearable in self.wearables:
            await wearable.stop()
        await self.air.close()
        self._intake.store.close()
        self.ledger.close()

    def in_air(self, entry: Entry) -> bool:
        """Whether it was lost with the memory of a gateway that was killed."""
        return not entry.kept and any(0 <= killed_ms - entry.time_ms <= _EXPOSURE_MS for killed_ms in self.killed_ms)

    def _some(self, shortest_s: float, longest_s: float) -> Awaitable[None]:
        return asyncio.sleep(self.rng.uniform(shortest_s, longest_s))

    async def _sense(self) -> None:
        """The CGM measures every five minutes."""
        last = self.cgm.offset()
        while True:
            await asyncio.sleep(60 - self.loop.time() % 60)
            offset = self.cgm.offset()
            if offset < last or offset >= last + 5:
                last = offset - offset % 5
                await self.cgm.measure(last)

    async def _prick(self) -> None:
        """About eight finger pricks a day."""
        while True:
            await self._some(0.5 * HOUR_S, 5.5 * HOUR_S)
            await self.meter.measure()

    async def _finger(self) -> None:
        """The oximeter stores nothing: a spot-check counts if somebody listens."""
        while True:
            await self._some(HOUR_S, 4 * HOUR_S)
            await self.oximeter.measure_spot()

    async def _wander(self, wearable: Peripheral) -> None:
        """Out of range for minutes or hours, or the link drops for a moment."""
        while True:
            await self._some(0.5 * HOUR_S, 9 * HOUR_S)
            if self.rng.random() < 0.3:
                await wearable.drop()
                continue
            await wearable.leave()
            await self._some(60, 600 if self.rng.random() < 0.5 else 8 * HOUR_S)
            await wearable.come()

    async def _lie(self, store: RecordStore) -> None:
        """Busy, silent, short, or cut off, each for a while."""
        while True:
            await self._some(4 * HOUR_S, 20 * HOUR_S)
            store.answer = self.rng.choice([_busy, _silent, _short, _many])(store)
            await self._some(600, HOUR_S)
            store.answer = store.serve

    async def _change_clocks(self) -> None:
        """Summer time, a year too early, the factory's date, and right again."""
        while True:
            for wearable in (self.meter, self.cgm):
                await self._some(6 * HOUR_S, 30 * HOUR_S)
                wearable.set_clock(self.rng.choice(_CLOCK_ERRORS_S))

    async def _renew(self) -> None:
        """A new sensor in mid-week; a factory reset of the meter two days later. Both forget what they had stored."""
        await self._some(2.5 * DAY_S, 3.5 * DAY_S)
        await self._fetched(CGM_ADDRESS)
        self.cgm.restart_session()
        await self._some(1.5 * DAY_S, 2.5 * DAY_S)
        await self._fetched(GLS_ADDRESS)
        self.meter.reset()

    async def _fetched(self, address: str) -> None:
        """Wait until all that the wearable stores is durable."""
        while True:
            await asyncio.sleep(60)
            bluetooth = self.box.gateway.bluetooth
            links = bluetooth and bluetooth.links
            linked = self.box.running and links and links.states[address] is LinkState.UP
            if linked and links.backfills[address] is Backfill.COMPLETE:
                return

    async def _restart(self) -> None:
        """The gateway is killed, and stays away for a while."""
        while True:
            await self._some(6 * HOUR_S, 20 * HOUR_S)
            self.killed_ms.append(self.now_ms())
            await self.box.kill()
            await self._some(1, 1_800)
            self.box = Box(self)
            await self.box.start()

    async def _deliver_now_and_then(self) -> None:
        """The receiver is there most of the time."""
        while True:
            await self._some(60, 600 if self.rng.random() < 0.9 else 10 * HOUR_S)
            if self.box.running:
                self.deliver()


def measured(site: Site) -> list[Entry]:
    """What the wearables say that somebody could have heard."""
    lines = [json.loads(line) for line in site.ledger.read_text().splitlines()]
    return [
        Entry(line["device"], int(metric), line["sequence"], Decimal(value), line["sent_ms"], kept=line["stored"])
        for line in lines
        if "values" in line and (line["stored"] or line["linked"])
        for metric, value in line["values"].items()
    ]


def stored(site: Site) -> list[Entry]:
    """What the receiver says."""
    query = "SELECT device, metric, sequence, mantissa, exponent, time_ms, extras, backfilled FROM readings"
    with closing(sqlite3.connect(site.receiver_state / DATABASE)) as database:
        rows = database.execute(query).fetchall()
    return [
        Entry(
            device,
            metric,
            sequence,
            Decimal(mantissa).scaleb(exponent),
            time_ms,
            json.loads(extras or "{}").get(str(int(Extra.UNCERTAINTY_MS))),
            bool(backfilled),
        )
        for device, metric, sequence, mantissa, exponent, time_ms, extras, backfilled in rows
    ]


Answer = Callable[[bytes], tuple[Sequence[bytes], bytes | None]]


def _busy(_store: RecordStore) -> Answer:
    return lambda request: ((), bytes([6, 0, request[0], 10]))


def _silent(_store: RecordStore) -> Answer:
    return lambda _request: ((), None)


def _short(store: RecordStore) -> Answer:
    def answer(request: bytes) -> tuple[Sequence[bytes], bytes | None]:
        records, response = store.serve(request)
        return records[: len(records) // 2], response

    return answer


def _many(store: RecordStore) -> Answer:
    return lambda request: ((), b"\x05\x00\xff\x7f") if request[0] == 4 else store.serve(request)
