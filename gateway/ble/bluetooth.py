"""The Bluetooth side of the box: keeps the adapter and the links alive, and does what a person asks for.

A missing or dead adapter is an event and a state, never an end: it is tried again until it is back.
"""

import asyncio

from bleak.exc import BleakError

from gateway import health
from gateway.ble.healing import AdapterWatchdog, Remedy
from gateway.ble.links import Links
from gateway.ble.radio import Heard, OnHeard
from gateway.ble.setup import Setup
from gateway.ble.wearables import Wearables
from gateway.ble.window import Window
from gateway.errors import AdapterError, LinkError, PairingError
from gateway.observe.progress import Pulse

_RETRY_S = 1.0
_RETRY_MAX_S = 10.0
_LOOK_S = 0.05
_RESCAN_S = 30.0
"""BlueZ tells of a wearable once, and then when its signal changes; a scan that begins anew tells of all again."""
_ACT_S = 60.0
"""A few questions to BlueZ, each of which ends after 10 s, take no longer; that there is no adapter is an answer."""
_SAVE_S = 600.0
_REFUSED_EVERY_S = 60.0
"""A peer that asks again and again is reported once in this time, and of many peers so many."""
_MOST_REFUSED = 16


class Bluetooth:
    """All wearables, their radio, and the acts of the people who look after them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._time_s = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._listeners: list[OnHeard] = []
        self._window = Window(self._refused)
        self._refused_at: dict[str, float] = {}
        self._watchdog = AdapterWatchdog(silent_s=setup.config.adapter_silent_s, now=self._time_s())
        self.links = Links(setup, on_change=self._changed.set)
        self.wearables = Wearables(setup, self.links, self._window)
        """What people do."""
        self.pulses = {"adapter": Pulse(), "scan": Pulse()}
        """What watches the adapter, and what listens. With or without an adapter they get on."""
        self.adapter_up: bool | None = None
        """Whether the adapter is in use; None: not tried yet."""
        self.adapter_trouble: str | None = None
        """Why it is not in use, and the way out."""

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save_now_and_then(), name="inventory")
                group.create_task(self._keep_adapter(), name="adapter")
        finally:
            self._save()

    async def _keep_adapter(self) -> None:
        pause_s = _RETRY_S
        pulse = self.pulses["adapter"]
        while True:
            pulse.expect(_ACT_S)
            try:
                gone = await self._setup.radio.open(self._window.ask)
            except AdapterError as error:
                self._adapter(up=False, error=error)
                await self._heal()
                pulse.expect(pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_MAX_S)
                continue
            pause_s = _RETRY_S
            self._adapter(up=True)
            try:
                await self._serve(gone)
            finally:
                pulse.expect(_ACT_S)
                await self._setup.radio.close()
            self._adapter(up=False, error=AdapterError("the adapter, bluetoothd or D-Bus has gone"))

    async def _serve(self, gone: asyncio.Future[None]) -> None:
        """While the adapter is there."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for work in (self.links.run, self._scan, self._watch)]
            await asyncio.wait([gone])
            for task in tasks:
                task.cancel()
        self.pulses["scan"].rest()

    def _adapter(self, *, up: bool, error: AdapterError | None = None) -> None:
        """Tell a change once."""
        self.adapter_trouble = None if error is None else str(error)
        if self.adapter_up is not up:
            self.adapter_up = up
            self._setup.on_event("adapter-up" if up else "adapter-down")
            if error:
                self._setup.on_error(error)

    @property
    def _listening(self) -> bool:
        return self.links.due or bool(self._listeners)

    async def _scan(self) -> None:
        """Listen while somebody should be heard."""
        pulse = self.pulses["scan"]
        while True:
            self._changed.clear()
            if not self._listening:
                pulse.rest()
                await self._changed.wait()
                continue
            pulse.expect(_RESCAN_S + _ACT_S)
            try:
                async with self._setup.radio.scan(self._heard), asyncio.timeout(_RESCAN_S):
                    while self._listening:
                        self._changed.clear()
                        await self._changed.wait()
            except TimeoutError:
                continue
            except (BleakError, AdapterError, OSError, EOFError) as error:
                if _cancelled():  # a scanner that cannot be stopped must not hide that
                    raise asyncio.CancelledError from error
                self._setup.on_error(LinkError(f"cannot listen: {error}"))
                await asyncio.sleep(_RETRY_S)

    def _heard(self, heard: Heard) -> None:
        self._watchdog.heard(self._time_s())
        self.links.heard(heard)
        for listener in self._listeners:
            listener(heard)

    @property
    def adapter(self) -> str:
        """starting, up or down."""
        return {None: "starting", True: "up", False: "down"}[self.adapter_up]

    async def scan(self, seconds: float) -> list[Heard]:
        """Listen for `seconds`; the wearables that were heard, each as it was heard last, the nearest first.

        Raises `AdapterError` while there is no adapter.
        """
        if not self.adapter_up:
            raise AdapterError(f"the Bluetooth adapter is not in use: {self.adapter_trouble or 'it is being opened'}")
        found: dict[str, Heard] = {}

        def note(heard: Heard) -> None:
            if not heard.services.isdisjoint(health.SERVICES):
                found[heard.address] = heard

        self._listeners.append(note)
        self._changed.set()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._listeners.remove(note)
            self._changed.set()
        return sorted(found.values(), key=lambda heard: -heard.rssi_dbm)

    async def _watch(self) -> None:
        look_s = max(_LOOK_S, self._setup.config.adapter_silent_s / 8)
        while True:
            self.pulses["adapter"].expect(look_s + _ACT_S)
            await asyncio.sleep(look_s)
            await self._heal()

    async def _heal(self) -> None:
        """Ask the watchdog, and do what it says."""
        remedy = self._watchdog.look(self._time_s(), due=self.links.due and not self.links.up)
        if remedy is None:
            return
        self._setup.on_event(remedy.value)
        try:
            if remedy is Remedy.RESET:
                await self._setup.radio.reset()
            else:
                self._setup.config.reset_request.write_text("")
        except AdapterError as error:
            self._setup.on_error(error)
        except OSError as error:
            self._setup.on_error(
                AdapterError(f"{self._setup.config.reset_request}: cannot be written: {error.strerror}")
            )

    def _refused(self, error: PairingError, address: str) -> None:
        self._setup.on_error(error)
        now = self._time_s()
        self._refused_at = {peer: at for peer, at in self._refused_at.items() if now - at < _REFUSED_EVERY_S}
        if address not in self._refused_at and len(self._refused_at) < _MOST_REFUSED:
            self._refused_at[address] = now
            self._setup.on_event("pairing-refused", address)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_S)
            self._save()

    def _save(self) -> None:
        try:
            self._setup.inventory.save()
        except OSError as error:
            self._setup.on_error(LinkError(f"what was seen of wearables cannot be noted: {error.strerror}"))


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
