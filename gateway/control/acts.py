"""What a call does. Each method takes a `Call` and returns what the route says, or raises a `GatewayError`."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from cryptography import x509

from gateway import health
from gateway.ble.bluetooth import Bluetooth
from gateway.ble.inventory import Inventory
from gateway.config import GatewayConfig
from gateway.control import api
from gateway.control.feed import STILL_HERE, Feed, server_sent
from gateway.errors import AdapterError, ControlError
from gateway.health.metrics import METRICS
from gateway.identity.files import load_certificate, verify_key
from gateway.identity.rung import open_key
from gateway.model import Event, Reading
from gateway.outbox.outbox import Outbox
from gateway.outbox.shelf import OutboxStats

_PROMPT_S = 1.0
_STATUS_S = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose form is right, by somebody who may make it."""

    address: str
    """From the path; empty where it has none."""
    body: Any
    """As the route says."""


class Acts:
    """Everything that people can do."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        status: Callable[[], api.Status],
        bluetooth: Callable[[], Bluetooth | None],
        inventory: Inventory,
        outbox: Outbox,
        events: Feed[Event],
        readings: Feed[Reading],
    ) -> None:
        self._config = config
        self._status = status
        self._bluetooth_now = bluetooth
        self._inventory = inventory
        self._outbox = outbox
        self._events = events
        self._readings = readings
        self._heard: dict[str, tuple[str, ...]] = {}
        """Profiles of what the last scan heard, by address."""

    @property
    def _bluetooth(self) -> Bluetooth:
        found = self._bluetooth_now()
        if found is None:
            raise AdapterError("there is no radio: set ble.adapter in the configuration")
        return found

    def _known(self, address: str) -> str:
        if address not in self._inventory:
            raise ControlError("not-found", f"{address}: is not a wearable of this gateway; see: devices list")
        return address

    async def status(self, _: Call) -> api.Status:
        """The daemon at a glance."""
        return self._status()

    async def outbox(self, _: Call) -> OutboxStats:
        """What waits."""
        return self._outbox.stats()

    async def identity(self, _: Call) -> api.Identity:
        """Keys and certificates."""
        identity = self._config.identity
        tls, signing = (
            x509.load_pem_x509_certificates(load_certificate(path))[0]
            for path in (identity.tls_cert, identity.signing_cert)
        )
        return api.Identity(
            gateway=self._config.gateway.id,
            signer=verify_key(open_key(identity, identity.signing_key).public_key()).kid.hex(),
            signing_certificate_until=signing.not_valid_after_utc.isoformat(),
            tls_certificate_until=tls.not_valid_after_utc.isoformat(),
            key_list_serial=self._status().key_list_serial,
            keys=identity.keys,
        )

    async def devices(self, _: Call) -> tuple[api.Wearable, ...]:
        """Every wearable."""
        return tuple(api.Wearable(self._inventory.get(now.address), now) for now in self._status().devices)

    async def device(self, call: Call) -> api.Wearable:
        """One wearable."""
        address = self._known(call.address)
        return next(each for each in await self.devices(call) if each.known.address == address)

    async def rename(self, call: Call) -> api.Done:
        """What people call it."""
        self._bluetooth.wearables.rename(self._known(call.address), call.body.name)
        return api.Done()

    async def assign(self, call: Call) -> api.Stream:
        """A new stream."""
        address = self._known(call.address)
        stream = self._bluetooth.wearables.assign(address, user=call.body.user, since_ms=call.body.since_ms)
        return api.Stream(stream.hex())

    async def unassign(self, call: Call) -> api.Done:
        """No more readings of one user, of none, or of any."""
        address = self._known(call.address)
        if call.body.everyone:
            self._bluetooth.wearables.unassign_all(address)
        else:
            self._bluetooth.wearables.unassign(address, user=call.body.user)
        return api.Done()

    async def unpair(self, call: Call) -> api.Done:
        """Forget its keys."""
        await self._bluetooth.wearables.unpair(self._known(call.address))
        return api.Done()

    async def remove(self, call: Call) -> api.Done:
        """Forget it altogether."""
        await self._bluetooth.wearables.remove(self._known(call.address))
        return api.Done()

    async def release(self, call: Call) -> api.Done:
        """Out of quarantine."""
        self._bluetooth.wearables.release(self._known(call.address))
        return api.Done()

    async def scan(self, call: Call) -> tuple[api.Found, ...]:
        """Health wearables nearby, the nearest first."""
        heard = await self._bluetooth.scan(call.body.seconds)
        known = {each.address: each.identity for each in self._inventory.devices}
        found = tuple(
            api.Found(
                each.address,
                each.name,
                (known[each.address].make if each.address in known else "") or each.make,
                (known[each.address].model if each.address in known else "") or None,
                tuple(sorted(health.SERVICES[service] for service in each.services & health.SERVICES.keys())),
                each.rssi_dbm,
                each.address in known,
            )
            for each in heard
        )
        self._heard = {each.address: each.profiles for each in found}
        return found

    async def pair(self, call: Call) -> api.Wearable:
        """Takes as long as the person does; meanwhile `prompt` and `answer`."""
        address, profile = call.body.address, call.body.profile
        if profile is None and address in self._inventory:
            profile = self._inventory.get(address).profile
        if profile is None:
            profiles = self._heard.get(address, ())
            if len(profiles) != 1:
                raise ControlError("not-heard", f"{address}: was not heard as one kind; scan again, or say its profile")
            [profile] = profiles
        await self._bluetooth.wearables.pair(address, profile)
        return await self.device(Call(address, None))

    async def prompt(self, _: Call) -> api.Asked:
        """What the person is to do, as soon as there is something, or nothing after a second."""
        try:
            async with asyncio.timeout(_PROMPT_S):
                prompt = await self._bluetooth.wearables.prompted()
        except TimeoutError:
            return api.Asked(None, None, None)
        return api.Asked(prompt.address, prompt.method.value, prompt.number)

    async def answer(self, call: Call) -> api.Done:
        """What the person says."""
        self._bluetooth.wearables.answer((call.body.number or 0) if call.body.yes else None)
        return api.Done()

    async def events(self, _: Call) -> AsyncGenerator[bytes, None]:
        """The status again and again, and what happens in between."""
        return self._watch()

    async def _watch(self) -> AsyncGenerator[bytes, None]:
        with self._events.listen() as queue:
            while True:
                yield server_sent("status", asdict(self._status()))
                try:
                    async with asyncio.timeout(_STATUS_S):
                        while True:
                            event = await queue.get()
                            yield server_sent("event", _plain(event))
                except TimeoutError:
                    continue

    async def all_readings(self, _: Call) -> AsyncGenerator[bytes, None]:
        """What every wearable measures, as it comes."""
        return self._measured(None)

    async def readings(self, call: Call) -> AsyncGenerator[bytes, None]:
        """What one wearable measures, as it comes."""
        return self._measured(self._known(call.address))

    async def _measured(self, address: str | None) -> AsyncGenerator[bytes, None]:
        with self._readings.listen() as queue:
            yield STILL_HERE
            while True:
                reading = await queue.get()
                if address in (None, reading.device):
                    yield server_sent("reading", asdict(_seen(reading)))


def _plain(event: Event) -> dict[str, object]:
    details = [each.hex() if isinstance(each, bytes) else each for each in event.details]
    return {"code": event.code, "details": details, "at_ms": event.time_ms}


def _seen(reading: Reading) -> api.ReadingSeen:
    metric = METRICS.get(reading.metric)
    value = None if reading.mantissa is None else format(Decimal(reading.mantissa).scaleb(reading.exponent), "f")
    reasons = tuple(str(reason.name).lower() for reason in reading.reasons)
    name, unit = (metric.name, metric.unit) if metric else (str(reading.metric), "")
    return api.ReadingSeen(reading.device, name, value, unit, reading.time_ms, reasons)
