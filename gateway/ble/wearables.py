"""What people do with wearables: look for them, pair, say whose they are, release, unpair. Each act is an event.

Every method is safe to call from the loop's own tasks at any time, and raises a `DeviceError` that says why not.
"""

import asyncio
import secrets
from dataclasses import replace

from bleak import BleakClient
from bleak.exc import BleakError

from gateway.ble import about
from gateway.ble.guard import DUPLICATE_SERIAL, alone, identified
from gateway.ble.inventory import Device, Identity, Profile
from gateway.ble.links import Links, required_security
from gateway.ble.pairing import Prompt, Security
from gateway.ble.radio import end
from gateway.ble.setup import Setup
from gateway.ble.window import Window
from gateway.errors import DeviceError, LinkError, PairingError, QuarantineError


class Wearables:
    """The acts of a person, on top of what runs by itself."""

    def __init__(self, setup: Setup, links: Links, window: Window) -> None:
        self._setup = setup
        self._links = links
        self._window = window

    def get(self, address: str) -> Device:
        """Everything known of `address`."""
        if address not in self._setup.inventory:
            raise LinkError(f"{address}: is not a wearable of this gateway")
        return self._setup.inventory.get(address)

    async def pair(self, address: str, profile: Profile) -> Device:
        """Open a window for `address`, pair within it, and take it into the inventory, assigned to nobody yet.

        Takes as long as the person does, at most `ble.pairing_window_s`; meanwhile `prompted` and `answer`. A wearable
        that is here already keeps its assignment, if it is still the same one.
        """
        known = self._setup.inventory.get(address) if address in self._setup.inventory else Device(address, profile)
        if known.bond is not Security.NONE or await self._setup.radio.bonded(address):
            raise PairingError(f"{address}: is paired already; unpair it first")
        required = required_security(self._setup.config, profile)
        self._window.open(address, required=required, seconds=self._setup.config.pairing_window_s)
        self._setup.on_event("pairing-opened", address)
        failed = False
        try:
            async with asyncio.timeout(self._setup.config.pairing_window_s):
                client = await self._links.connect(address, lambda: None, self._setup.config.connect_timeout_s)
                try:
                    failed = True
                    device = await self._bond(client, known)
                    failed = False
                finally:
                    await end(client.disconnect())
        except TimeoutError as error:
            raise PairingError(f"{address}: nobody answered in time") from error
        except BleakError as error:
            raise PairingError(f"{address}: {error}") from error
        finally:
            self._window.close(failed=failed)
            if failed:
                self._setup.on_event("pairing-failed", address)
        self._setup.on_event("paired", address, device.bond.name.lower())
        if device.quarantine and not known.quarantine:
            self._setup.on_event("quarantined", address, device.quarantine)
        self._links.refresh(address)
        return device

    async def _bond(self, client: BleakClient, known: Device) -> Device:
        """A bond that is too weak, or of another wearable than it was, is not kept."""
        try:
            level = self._window.check(await self._setup.radio.pair(client))
            device = replace(
                known,
                bond=level,
                bond_mark=await self._setup.radio.bond_mark(known.address),
                identity=identified(known, await about.identity(client)),
                last_seen_ms=self._setup.clock.now_ms(),
            )
            try:
                alone(device, device.identity, self._setup.inventory.devices)
            except QuarantineError as error:
                device = replace(device, quarantine=error.reason)
            self._put(device)
        except (DeviceError, BleakError):
            await self._setup.radio.unpair(known.address)
            raise
        return device

    async def prompted(self) -> Prompt:
        """Wait until the pairing has something for the person to answer, or to type on the wearable."""
        return await self._window.prompted()

    def answer(self, value: int | None) -> None:
        """See `Window.answer`."""
        self._window.answer(value)

    async def unpair(self, address: str) -> None:
        """Forget the keys; the wearable keeps its place and its assignment."""
        device = self.get(address)
        self._put(replace(device, bond=Security.NONE, bond_mark=""))
        self._links.refresh(address)
        await self._forget(address)
        self._setup.on_event("unpaired", address)

    async def remove(self, address: str) -> None:
        """Forget the wearable altogether."""
        self.get(address)
        try:
            self._setup.inventory.remove(address)
        except OSError as error:
            raise LinkError(f"{address}: cannot be removed: {error.strerror}") from error
        self._links.refresh(address)
        await self._forget(address)
        self._setup.on_event("removed", address)

    async def _forget(self, address: str) -> None:
        try:
            await self._setup.radio.unpair(address)
        except BleakError as error:
            raise PairingError(f"{address}: its keys cannot be removed: {error}") from error

    def assign(self, address: str, *, user: int | None = None, since_ms: int | None = None) -> bytes:
        """From now on, or from `since_ms` (UTC), its readings are of one person: a new stream, which is returned.

        `user`: those that name this user of a shared device, else those that name none. Assigning again never continues
        an earlier stream. While the gateway does not know the time, `since_ms` must be said; 0: all that the wearable
        has stored is this person's.
        """
        device = self.get(address)
        stream = secrets.token_bytes(16)
        since_ms = self._setup.clock.utc_ms() if since_ms is None else since_ms
        if since_ms is None:
            raise LinkError(f"{address}: the time is not known yet, so say since when its records are this person's")
        self._put(device.assign(stream, user=user, since_ms=since_ms))
        self._setup.on_event("assigned", address, stream, user)
        self._links.refresh(address)
        return stream

    def unassign(self, address: str, *, user: int | None = None) -> None:
        """Take no more readings that name this user, or that name none. Those of other users go on."""
        self._put(self.get(address).unassign(user))
        self._setup.on_event("unassigned", address, user)
        self._links.refresh(address)

    def unassign_all(self, address: str) -> None:
        """Take nothing more from it, whomever it names."""
        device = self.get(address)
        self._put(device.unassign_all())
        for user in (None, *(slot.user for slot in device.users)):
            if device.owner(user) is not None:
                self._setup.on_event("unassigned", address, user)
        self._links.refresh(address)

    def rename(self, address: str, name: str) -> None:
        """What people call it; never leaves this box."""
        self._put(replace(self.get(address), name=name))

    def release(self, address: str) -> None:
        """Take a wearable out of quarantine, as what it is now: what it says of itself is learned anew.

        One whose key was another is then to be unpaired and paired again.
        """
        device = self.get(address)
        if device.quarantine is None:
            raise LinkError(f"{address}: is not in quarantine")
        shares_serial = device.shares_serial or device.quarantine == DUPLICATE_SERIAL
        self._put(replace(device, quarantine=None, identity=Identity(), shares_serial=shares_serial))
        self._setup.on_event("released", address, device.quarantine)
        self._links.refresh(address)

    def _put(self, device: Device) -> None:
        try:
            self._setup.inventory.put(device)
        except OSError as error:
            raise LinkError(f"{device.address}: cannot be noted: {error.strerror}") from error
