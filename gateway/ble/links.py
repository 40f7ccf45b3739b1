"""One task per wearable that is paired and assigned: wait until it is heard, connect, make sure, collect, heal."""

import asyncio
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from bleak import BleakClient
from bleak.exc import BleakError

from gateway.ble import about
from gateway.ble.collector import Backfill, Collector
from gateway.ble.guard import KEY_CHANGED, SERVICES_CHANGED, Guard, Last, Names, alone, identified
from gateway.ble.healing import LinkMachine, LinkState
from gateway.ble.inventory import Device, Identity, Profile
from gateway.ble.pairing import Security
from gateway.ble.profiles import PROFILES, SPEAKS
from gateway.ble.profiles.times import DeviceTimes
from gateway.ble.radio import Heard, end
from gateway.ble.setup import Setup
from gateway.config import BleSection
from gateway.errors import BondError, DeviceError, LinkError, OutboxFullError, QuarantineError
from gateway.model import Cursor, Reading

_UNHEARD_S = 300.0
"""A wearable that advertises to its bonded peer alone is not always heard: it is tried now and then all the same."""
_UNHEARD_TRY_S = 5.0


def initial_state(device: Device) -> LinkState:
    """Where a wearable's link stands before anything was tried."""
    if device.quarantine is not None:
        return LinkState.QUARANTINED
    if not device.assigned:
        return LinkState.UNASSIGNED
    return LinkState.UNPAIRED if device.bond is Security.NONE else LinkState.DOWN


@dataclass(slots=True)
class _Remembered:
    """What one link leaves to the next."""

    readings: Last = field(default_factory=dict)
    records: set[Hashable] = field(default_factory=set)
    other_services: bool = False
    """They were found to be others, and are looked at a second time."""


class Links:
    """The links to all wearables; `on_change` is told whenever the answer of `due` may have become another."""

    def __init__(self, setup: Setup, *, on_change: Callable[[], None]) -> None:
        self._setup = setup
        self._cursors: dict[str, Cursor | None] = dict(setup.cursors)
        self._on_change = on_change
        self._time_s = asyncio.get_running_loop().time
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._nearby: dict[str, asyncio.Event] = {}
        self._machines: dict[str, LinkMachine] = {}
        self._remembered: dict[str, _Remembered] = {}
        self._names = Names()
        self.backfills: dict[str, Backfill] = {}
        """By address, whether all that the wearable stores is here."""
        self.connecting = asyncio.Lock()
        """A controller makes one connection at a time; the others wait for their turn, in the order they came."""
        for device in setup.inventory.devices:
            self._reset(device)

    @property
    def states(self) -> dict[str, LinkState]:
        """Link state by address."""
        return {address: machine.state for address, machine in self._machines.items()}

    @property
    def due(self) -> bool:
        """Some wearable should be linked and is not."""
        return any(machine.due for machine in self._machines.values())

    @property
    def up(self) -> bool:
        """Some wearable is linked, so the adapter works."""
        return any(machine.state is LinkState.UP for machine in self._machines.values())

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for device in self._setup.inventory.devices:
                    self._start(device.address)
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            self._tasks.clear()

    def refresh(self, address: str) -> None:
        """The inventory has changed: end the wearable's link, and start anew if it is to have one."""
        task = self._tasks.pop(address, None)
        if task:
            task.cancel()
        if address not in self._setup.inventory:
            self._machines.pop(address, None)
            self.backfills.pop(address, None)
            self._remembered.pop(address, None)
        else:
            self._reset(self._setup.inventory.get(address))
            self._start(address, after=task)
        self._on_change()

    def heard(self, heard: Heard) -> None:
        """A wearable is nearby."""
        if heard.address in self._machines:
            device = self._setup.inventory.get(heard.address)
            self._setup.inventory.seen(
                replace(device, last_seen_ms=self._setup.clock.now_ms(), rssi_dbm=heard.rssi_dbm)
            )
            self._nearby[heard.address].set()
            if self._names.doubled(heard.address, heard.name, self._time_s()):
                self._setup.on_event("duplicate-address", heard.address)

    def _reset(self, device: Device) -> None:
        self._nearby.setdefault(device.address, asyncio.Event())
        self._remembered[device.address] = _Remembered()
        self.backfills.setdefault(device.address, Backfill.OPEN)
        self._machines[device.address] = LinkMachine(
            initial_state(device),
            retry_max_s=self._setup.config.retry_max_s,
            silent_s=self._setup.config.silent_s if device.profile in SPEAKS else None,
            jitter=lambda: random.uniform(0.5, 1.0),
        )

    def _start(self, address: str, *, after: asyncio.Task[None] | None = None) -> None:
        if self._group and self._machines[address].due:
            self._tasks[address] = self._group.create_task(self._serve(address, after), name=f"link {address}")

    async def _serve(self, address: str, after: asyncio.Task[None] | None) -> None:
        """Keep one wearable linked until it is cancelled or quarantined."""
        if after:
            await asyncio.wait([after])
        machine = self._machines[address]
        while machine.due:
            nearby = await self._wait(address, machine)
            try:
                await self._session(self._setup.inventory.get(address), machine, nearby=nearby)
            except QuarantineError as error:
                self._setup.on_error(error)
                self._quarantine(address, machine, error)
            except BondError as error:
                self._setup.on_error(error)
                self._enter(address, machine, machine.bond_lost)
            except DeviceError as error:
                self._setup.on_error(error)
                self._enter(address, machine, machine.down)
            except asyncio.CancelledError:
                machine.down(self._time_s())
                raise

    async def _wait(self, address: str, machine: LinkMachine) -> bool:
        """Sit the pause out, then wait for the wearable; False: it was not heard, try it all the same."""
        await asyncio.sleep(max(0.0, machine.next_try - self._time_s()))
        nearby = self._nearby[address]
        try:
            async with asyncio.timeout(_UNHEARD_S):
                await nearby.wait()
        except TimeoutError:
            return False
        nearby.clear()
        return True

    async def _session(self, device: Device, machine: LinkMachine, *, nearby: bool) -> None:
        """One connection from first to last. Ends by a `DeviceError`."""
        if not await self._setup.radio.bonded(device.address):
            raise BondError(f"{device.address}: was paired, but its bond is missing here; pair it again")
        if device.bond_mark and await self._setup.radio.bond_mark(device.address) != device.bond_mark:
            raise QuarantineError(KEY_CHANGED, f"{device.address}: its bond is not the one that was made here")
        remembered = self._remembered[device.address]
        guard = Guard(device, remembered.readings)

        def take(readings: Sequence[Reading], cursor: Cursor | None) -> None:
            machine.heard(self._time_s())
            self._hand_on(device, guard, readings, cursor)

        def on_error(error: DeviceError) -> None:
            machine.heard(self._time_s())
            self._setup.on_error(error)

        collector = Collector(
            device,
            PROFILES[device.profile](device.address, DeviceTimes(device.address, self._setup.clock, self._setup.book)),
            cursor=self._cursors.get(device.address),
            seen=remembered.records,
            sink=take,
            on_error=on_error,
            on_backfill=partial(self.backfills.__setitem__, device.address),
            racp_timeout_s=self._setup.config.racp_timeout_s,
            now_ms=self._setup.clock.now_ms,
        )
        timeout_s = self._setup.config.connect_timeout_s
        try:
            client = await self.connect(device.address, collector.end, timeout_s if nearby else _UNHEARD_TRY_S)
            try:
                await self._make_sure(device, client)
                self._enter(device.address, machine, machine.up)
                silence = asyncio.create_task(self._listen(device.address, machine, collector))
                try:
                    await collector.run(client)
                finally:
                    silence.cancel()
            finally:
                self._cursors[device.address] = collector.cursor
                await end(client.disconnect())
        except OutboxFullError as error:
            self._cursors[device.address] = self._setup.cursors.get(device.address)
            remembered.records.clear()
            raise LinkError(f"{device.address}: asked again later for what it stores: {error}") from error
        except (BleakError, TimeoutError) as error:
            raise LinkError(f"{device.address}: {error or 'did not answer in time'}") from error

    async def connect(self, address: str, on_disconnect: Callable[[], None], timeout_s: float) -> BleakClient:
        """Connect when it is this one's turn. Raises as `Radio.connect`."""
        async with self.connecting:
            return await self._setup.radio.connect(address, timeout_s=timeout_s, on_disconnect=on_disconnect)

    async def _make_sure(self, device: Device, client: BleakClient) -> None:
        """Take nothing over a link that is weaker than its profile demands, nor from another wearable than it was."""
        if min(device.bond, await self._setup.radio.security(client)) < required_security(
            self._setup.config, device.profile
        ):
            raise LinkError(f"{device.address}: the link is not authenticated")
        identity = self._identified(device, await about.identity(client))
        battery, features = await about.battery_pct(client), await about.features(client, device.profile)
        known = self._setup.inventory.get(device.address)
        self._setup.inventory.seen(
            replace(known, battery_pct=known.battery_pct if battery is None else battery, features=features)
        )
        if identity != device.identity:
            try:
                self._setup.inventory.put(replace(self._setup.inventory.get(device.address), identity=identity))
            except OSError as error:
                raise LinkError(f"{device.address}: cannot be noted: {error.strerror}") from error

    def _identified(self, device: Device, told: Identity) -> Identity:
        """As `guard.identified`; what was found of its services may be short of some, so that is looked at twice."""
        remembered = self._remembered[device.address]
        try:
            identity = identified(device, told)
        except QuarantineError as error:
            if error.reason != SERVICES_CHANGED or remembered.other_services:
                raise
            remembered.other_services = True
            raise LinkError(f"{error}; they are looked at again before that counts") from error
        remembered.other_services = False
        alone(device, identity, self._setup.inventory.devices)
        return identity

    def _hand_on(self, device: Device, guard: Guard, readings: Sequence[Reading], cursor: Cursor | None) -> None:
        """Readings to their streams; the cursor goes with the last of them, and without any it waits for the next."""
        routed = guard.route(readings)
        for user, number in routed.withheld.items():
            self._setup.on_event("withheld", device.address, number, user)
        strangers = {user for user in routed.withheld if user is not None and device.owner(user) is None}
        if strangers and device.address in self._setup.inventory:  # a person may have removed it meanwhile
            known = self._setup.inventory.get(device.address)
            users = tuple(sorted(strangers.union(known.users_seen)))
            if users != known.users_seen:
                self._setup.inventory.seen(replace(known, users_seen=users))
        last = next(reversed(routed.streams), None)
        for stream, own in routed.streams.items():
            self._setup.sink(stream, own, cursor if stream is last else None)

    async def _listen(self, address: str, machine: LinkMachine, collector: Collector) -> None:
        """End a link on which nothing is said any more."""
        while machine.silent_at is not None:
            wait_s = machine.silent_at - self._time_s()
            if wait_s <= 0:
                self._setup.on_event("link-silent", address)
                collector.end()
                return
            await asyncio.sleep(wait_s)

    def _quarantine(self, address: str, machine: LinkMachine, error: QuarantineError) -> None:
        """Until a person releases it; if the disk refuses, it is told apart again after the next start."""
        device = replace(self._setup.inventory.get(address), quarantine=error.reason)
        if error.reason == KEY_CHANGED:  # nobody here knows what that bond is worth
            device = replace(device, bond=Security.NONE, bond_mark="")
        try:
            self._setup.inventory.put(device)
        except OSError as failure:
            self._setup.on_error(LinkError(f"{address}: cannot be noted: {failure.strerror}"))
        machine.state = LinkState.QUARANTINED
        self._setup.on_event("quarantined", address, error.reason)
        self._on_change()

    def _enter(self, address: str, machine: LinkMachine, change: Callable[[float], None]) -> None:
        """Tell a change of state once."""
        before = machine.state
        change(self._time_s())
        if machine.state is not before:
            self._setup.on_event(machine.state.value, address)
        self._on_change()


def required_security(config: BleSection, profile: Profile) -> Security:
    """What a bond must be worth for this kind of wearable."""
    return Security.ENCRYPTED if profile in config.just_works else Security.AUTHENTICATED
