"""One TaskGroup: wires the services, speaks sd_notify, ends in order.

Anything unexpected in a service ends the process with what was synced safe on the disk; systemd starts it again.
"""

import asyncio
import datetime as dt
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from gateway import __version__
from gateway.ble.bluetooth import Bluetooth
from gateway.ble.collector import Backfill
from gateway.ble.healing import LinkState
from gateway.ble.inventory import Device, Inventory
from gateway.ble.profiles import SPEAKS
from gateway.ble.radio import Radio
from gateway.ble.setup import Setup
from gateway.clock.book import ClockBook
from gateway.clock.keeper import RELEASED_MS
from gateway.clock.system import Clock, SystemClocks
from gateway.config import GatewayConfig
from gateway.control import api, continuation
from gateway.control.service import Control
from gateway.envelope.keys import signer_for
from gateway.envelope.seal import ChainWriter
from gateway.errors import DeviceError, OutboxWriteError, ReceiptError
from gateway.health.metrics import limits_by_code
from gateway.health.quality import Assessor
from gateway.identity.files import load_owner
from gateway.identity.keyring import KeyRing
from gateway.identity.renewing import Renewer
from gateway.identity.rung import open_key, refuse_leftovers
from gateway.identity.successor import Successor
from gateway.identity.tls import gateway_context, scrape_context
from gateway.model import SECURITY_EVENTS, Cursor, Event, Lane, Reading
from gateway.observe import http, systemd
from gateway.observe.card import YEAR_S, Card, written_bytes
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox
from gateway.pipeline import Pipeline, root
from gateway.uplink.uplink import Uplink

_log = logging.getLogger(__name__)

_DRAIN_S = 3.0
_LOOK_S = 2.0
"""How often the system's clock is judged."""
_UNKNOWN = "unknown"
_CLOCK_SOURCES = ("ntp", "battery", "system", _UNKNOWN)


class Gateway:
    """The daemon: everything between the radio and the broker.

    Construction reads keys and recovers the outbox, and raises `GatewayError` before anything is started.
    """

    def __init__(self, config: GatewayConfig, *, clocks: SystemClocks | None = None) -> None:
        self.config = config
        self.metrics = GatewayMetrics()
        self._started = time.monotonic()
        state_dir = config.gateway.state_dir
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clock_book = ClockBook.load(state_dir / "clocks.json")
        vouched = config.clock.believe == "system"
        not_before_ms = RELEASED_MS if vouched else max(RELEASED_MS, self.clock_book.newest_ms)
        self.clock = Clock.start(config.clock.believe, not_before_ms=not_before_ms, clocks=clocks)
        identity = config.identity
        refuse_leftovers(config)
        self._successor = Successor(identity)
        self._successor.finish()
        load_owner(identity.tls_cert, config.gateway.id)
        self._tls = gateway_context(identity)
        self._signer_certificate = load_owner(identity.signing_cert, config.gateway.id)
        self.keys = KeyRing.open(
            shipped=identity.key_list,
            kept=state_dir / "keys.cbor",
            root=identity.fleet_root,
            allow_classical=config.envelope.allow_classical,
        )
        self._restored = continuation.load(state_dir)
        self.outbox = Outbox.open(
            state_dir / "outbox",
            gateway=config.gateway.id,
            segment_bytes=config.outbox.segment_bytes,
            capacity_bytes=config.outbox.capacity_bytes,
            reserve_bytes=config.outbox.reserve_bytes,
            after=self._restored.after if self._restored else None,
        )
        self.outbox.require(config.uplink.required_stores)
        self.outbox.on_fsync = self.metrics.fsync_seconds.observe
        signer = signer_for(open_key(identity, identity.signing_key))
        self.writers = {
            lane: ChainWriter(
                gateway=config.gateway.id,
                chain=os.urandom(16),
                signer=signer,
                recipients=self.keys.recipients,
                predecessor=self.outbox.head(lane) or root(config.gateway.id, lane),
                random=os.urandom,
                epoch_max_s=config.envelope.epoch_max_s,
            )
            for lane in Lane
        }
        self.uplink = Uplink(
            config.uplink,
            gateway_id=config.gateway.id,
            tls=self._tls,
            outbox=self.outbox,
            receivers=self.keys.receivers,
            signer_cert_pem=self._signer_certificate,
            on_key_list=self._take_key_list,
            metrics=self.metrics,
        )
        self.renewer = Renewer(identity, config.gateway.id, self._tls, on_context=self.uplink.use, metrics=self.metrics)
        self.pipeline = Pipeline(
            gateway=config.gateway.id,
            writers=self.writers,
            outbox=self.outbox,
            assessor=Assessor(limits_by_code(config.quality.bounds)),
            metrics=self.metrics,
            tick_ms=config.outbox.tick_ms,
            offline_tick_ms=config.outbox.offline_tick_ms,
            heartbeat_s=config.envelope.heartbeat_s,
            online=lambda: self.uplink.online,
            clock=self.clock,
            profile=self._profile,
        )
        self.uplink.on_backlog = self.pipeline.begin_segment
        self.inventory = Inventory.load(state_dir / "devices.json")
        self.bluetooth: Bluetooth | None = None
        self.control = Control(
            config,
            status=self.status,
            bluetooth=lambda: self.bluetooth,
            inventory=self.inventory,
            outbox=self.outbox,
            clock=self.clock,
            tell=self.pipeline.event,
        )
        self._pulses = {"pipeline": self.pipeline.pulse, "uplink": self.uplink.pulse, "outbox": self.outbox.pulse}
        self._missing = 0
        self._refused_list = b""
        self._card = Card(config.outbox.endurance_tbw)
        self.outbox.on_damage = self._tell_damage
        self.outbox.on_failure = self._tell_failure

    async def run(self, radio: Radio | None) -> None:
        """Serve until SIGTERM or SIGINT, then make a last bundle, offer it to the broker, and return.

        SIGHUP says that a person has mended something: what was refused for good is offered again.

        Raises an `ExceptionGroup` of what a service could not survive; `ConfigError` if nothing could be started.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.uplink.retry)
        async with AsyncExitStack() as stack:
            stack.callback(self.outbox.close)
            metrics = http.Page(self._render_metrics)
            await stack.enter_async_context(self.control.serve(metrics))
            if self.config.metrics.listen != "off":
                pages = {"/metrics": metrics}
                scrapes = scrape_context(self.config.metrics.tls)
                await stack.enter_async_context(http.serve(pages, listen=self.config.metrics.listen, tls=scrapes))
            due = self.clock.look()
            self.pipeline.event("start", __version__)
            self._tell_clock(due)
            self.control.tell_log()
            self._tell_restore()
            self._tell_damage(self.outbox.stats().missing)
            async with asyncio.TaskGroup() as group:
                sealing = group.create_task(self.pipeline.run(), name="pipeline")
                sending = group.create_task(self.uplink.run(), name="uplink")
                collecting = group.create_task(self._collect(radio), name="ble")
                timekeeping = group.create_task(self._keep_time(), name="clock")
                renewing = group.create_task(self.renewer.run(), name="renewal")
                watchdog = group.create_task(systemd.watchdog(self._pulses), name="watchdog")
                systemd.notify("READY=1")
                await stop.wait()
                systemd.notify("STOPPING=1")
                collecting.cancel()
                await self._end_chain(sealing)
                await self._drain()
                sending.cancel()
                timekeeping.cancel()
                renewing.cancel()
                watchdog.cancel()
        _log.info("stopped in order")

    def _tell_restore(self) -> None:
        """Say once, in the first urgent bundle of a box that was made of a backup, that it was."""
        if self._restored and self.outbox.head(Lane.URGENT) == self._restored.after.get(Lane.URGENT):
            at = dt.datetime.fromtimestamp(self._restored.backup_ms / 1000, dt.UTC)
            _log.warning("this box was restored from a backup", extra={"of": f"{at:%FT%TZ}"})
            self.pipeline.event("security", "restored", f"from a backup of {at:%FT%TZ}")

    async def _end_chain(self, sealing: asyncio.Task[None]) -> None:
        """Make the last bundle durable; it announces who signs the next chain, if that is another."""
        following = self._successor.public
        if following is not None:
            self.pipeline.event("signer", following.public)
        self.pipeline.close()
        await sealing
        if following is not None and self.pipeline.trouble is None:
            self._successor.take_over()

    async def _collect(self, radio: Radio | None) -> None:
        """Serve the wearables, for ever."""
        if radio is None:
            _log.info("there is no radio: ble.adapter is none")
            return
        self.bluetooth = Bluetooth(
            Setup(
                radio=radio,
                inventory=self.inventory,
                config=self.config.ble,
                cursors=self.outbox.cursors,
                sink=self._take,
                on_event=self._device_event,
                on_error=self._device_error,
                clock=self.clock,
                book=self.clock_book,
            )
        )
        self._pulses |= self.bluetooth.pulses
        await self.bluetooth.run()

    def _take(self, stream: bytes, readings: Sequence[Reading], cursor: Cursor | None) -> None:
        self.pipeline.submit(stream, readings, cursor)
        for reading in readings:
            self.control.readings.publish(reading)

    async def _keep_time(self) -> None:
        """Judge the system's clock again and again."""
        if self.clock.source is None:
            _log.warning(
                "the clock is not known, as neither a time service nor a battery keeps it: times count from the boot"
                " until one does; see [clock] in the configuration"
            )
        while True:
            await asyncio.sleep(_LOOK_S)
            self._tell_clock(self.clock.look())
            self._measure_card()

    def _measure_card(self) -> None:
        """See how fast the card is filled and worn."""
        stats, now_s = self.outbox.stats(), time.monotonic()
        written = written_bytes()
        self._card.note(now_s, appended_bytes=stats.appended_bytes, written_bytes=written)
        self.metrics.outbox_left_seconds.set(self._card.hours_left(stats.room_bytes) * 3600)
        self.metrics.card_life_seconds.set(self._card.years * YEAR_S)
        self.metrics.card_written.inc(written - self.metrics.value("card_written_bytes_total"))
        records = self.metrics.value("sealed_records_total")
        self.metrics.card_bytes_per_record.set(written / records if records else 0)

    def _tell_clock(self, events: Sequence[Event]) -> None:
        self.pipeline.tell(events)
        for event in events:
            _log.info(event.code, extra={"source": self.clock.source})
            if event.code == "clock-step":
                self.clock_book.forget()
                self.metrics.clock_step_seconds.set(int(event.details[-1] or 0) / 1000)

    def _tell_damage(self, missing: int) -> None:
        """Say how many bundles the medium has lost in all, each time there are more."""
        if missing > self._missing:
            self._missing = missing
            _log.error("the card has lost bundles of the outbox", extra={"missing": missing})
            self.pipeline.wake()

    def _tell_failure(self, error: OSError) -> None:
        """Say what the disk refused that nobody waited for."""
        self.metrics.outbox_failures.labels(cause=OutboxWriteError.cause).inc()
        _log.warning("the disk refused to tidy up the outbox: %s", error)

    def _device_event(self, code: str, *details: int | str | bytes | None) -> None:
        device = details[0] if details else None
        _log.log(logging.ERROR if code in SECURITY_EVENTS else logging.INFO, code, extra={"device": device})
        self.metrics.device_events.labels(code=code).inc()
        event = self.clock.event(code, *details)
        self.pipeline.tell([event])
        self.control.events.publish(event)

    def _device_error(self, error: DeviceError) -> None:
        _log.warning("%s", error, extra={"cause": error.cause})
        self.metrics.device_errors.labels(cause=error.cause).inc()

    def _take_key_list(self, data: bytes) -> None:
        """Use a newer key list from now on: recipients with each stream's next epoch.

        Raises `ReceiptError` for one that must not be believed; that is a signed event too, once for each list.
        """
        try:
            taken = self.keys.offer(data, now_ms=self.clock.utc_ms())
        except ReceiptError as error:
            if data != self._refused_list:
                self._refused_list = data
                self.pipeline.event("security", "key-list", str(error))
            raise
        if taken:
            for writer in self.writers.values():
                writer.recipients = self.keys.recipients
            self.uplink.receivers = self.keys.receivers
            self.pipeline.event("key-list", self.keys.current.serial)

    async def _drain(self) -> None:
        """Give the broker a moment to take what is left; what stays is sent after the next start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self.uplink.online and self.outbox.stats().bundles:  # noqa: ASYNC110 - receipts come from outside
                    await asyncio.sleep(0.05)

    def _render_metrics(self) -> bytes:
        """Prometheus' text, with the gauges brought up to date."""
        stats = self.outbox.stats()
        self.metrics.outbox_bytes.set(stats.bytes)
        self.metrics.outbox_bundles.set(stats.bundles)
        self.metrics.outbox_missing.set(stats.missing)
        self.metrics.clock_known.set(self.clock.source is not None)
        for source in _CLOCK_SOURCES:
            self.metrics.clock_source.labels(source=source).set(source == (self.clock.source or _UNKNOWN))
        self.metrics.clock_error_seconds.set(self.clock.error_ms() / 1000)
        self.metrics.clock_offset_seconds.set(self.clock.offset_ms() / 1000)
        self.metrics.outbox_oldest_seconds.set(self.clock.age_s(stats.oldest_ms))
        self.metrics.adapter_up.set(bool(self.bluetooth and self.bluetooth.adapter_up))
        states = Counter(state.value for state in self._states().values())
        self.metrics.unlinked.set(self._unlinked())
        for state in LinkState:
            self.metrics.devices.labels(state=state.value).set(states[state.value])
        backfills = Counter(self.bluetooth.links.backfills.values() if self.bluetooth else ())
        for backfill in Backfill:
            self.metrics.backfills.labels(state=backfill.value).set(backfills[backfill])
        return self.metrics.render()

    def _profile(self, address: str) -> str:
        return self.inventory.get(address).profile if address in self.inventory else _UNKNOWN

    def _unlinked(self) -> int:
        """How many wearables that should speak by themselves cannot."""
        states = self._states()
        speaking = (states.get(each.address) for each in self.inventory.devices if each.profile in SPEAKS)
        return sum(state not in (None, LinkState.UNASSIGNED, LinkState.UP) for state in speaking)

    def _states(self) -> Mapping[str, LinkState]:
        return self.bluetooth.links.states if self.bluetooth else {}

    def status(self) -> api.Status:
        """The daemon at a glance, for the control API."""
        stats = self.outbox.stats()
        return api.Status(
            gateway=self.config.gateway.id,
            version=__version__,
            uptime_s=int(time.monotonic() - self._started),
            online=self.uplink.online,
            uplink_trouble=self.uplink.trouble,
            adapter=self.bluetooth.adapter if self.bluetooth else "none",
            adapter_trouble=self.bluetooth.adapter_trouble if self.bluetooth else None,
            clock=self.clock.source or _UNKNOWN,
            chain=self.writers[Lane.DATA].chain.hex(),
            bundles_waiting=stats.bundles,
            bytes_waiting=stats.bytes,
            oldest_waiting_s=self.clock.age_s(stats.oldest_ms),
            outbox_hours_left=_finite(self._card.hours_left(stats.room_bytes)),
            card_years=_finite(self._card.years),
            trouble=self.pipeline.trouble,
            records_sealed=self.metrics.value("sealed_records_total"),
            bundles_acknowledged=self.metrics.value("uplink_acknowledged_bundles_total"),
            bundles_receipted=self.metrics.value("uplink_receipted_bundles_total"),
            bundles_parked=self.metrics.value("uplink_parked_bundles"),
            key_list_serial=self.keys.current.serial,
            devices=tuple(map(self._device_status, self.inventory.devices)),
        )

    def _device_status(self, device: Device) -> api.DeviceStatus:
        backfills = self.bluetooth.links.backfills if self.bluetooth else {}
        clock = self.clock_book.get(device.address)
        return api.DeviceStatus(
            device.address,
            device.profile,
            self._states().get(device.address, LinkState.DOWN).value,
            backfills.get(device.address, Backfill.OPEN).value,
            clock.last.offset_ms / 1000 if clock else None,
            clock.drift_ppm if clock else None,
        )


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return round(value, 1) if value != float("inf") else None
