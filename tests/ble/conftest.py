"""A ward: three virtual wearables in one air, and gateways that come and go."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.ble.bluetooth import Bluetooth
from gateway.ble.inventory import Inventory
from gateway.ble.pairing import Prompt
from gateway.ble.setup import Setup
from gateway.clock.book import ClockBook
from gateway.clock.system import Clock
from gateway.config import BleSection
from gateway.errors import OutboxFullError
from gateway.lab.air import Air
from gateway.lab.bonds import BondStore, bond_beforehand
from gateway.lab.devices import CGM_ADDRESS, GLS_ADDRESS, PLX_ADDRESS, Cgm, CgmPace, GlucoseMeter, PulseOximeter
from gateway.lab.peripheral import LedgerWriter, Peripheral
from gateway.lab.radio import VirtualRadio
from gateway.model import Cursor, Extra, Reading

if TYPE_CHECKING:
    from gateway.errors import DeviceError

OTHER_ADDRESS = "F0:00:00:00:01:09"
STREAMS = {CGM_ADDRESS: b"c" * 16, PLX_ADDRESS: b"p" * 16, GLS_ADDRESS: b"g" * 16, OTHER_ADDRESS: b"o" * 16}


async def until(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - looks at many parties, most of which know no event
            await asyncio.sleep(0.005)


def system_clock() -> Clock:
    """This machine's clock, believed."""
    clock = Clock.start("system", not_before_ms=0)
    clock.look()
    return clock


async def nobody(_prompt: Prompt) -> int:
    raise AssertionError("nobody pairs here")


class Gateway:
    """What runs between the radio and the pipeline, with everything it says written down."""

    def __init__(
        self,
        radio: VirtualRadio,
        inventory: Inventory,
        cursors: Mapping[str, Cursor],
        config: BleSection,
        *,
        clock: Clock,
        book: ClockBook,
    ) -> None:
        self.radio = radio
        self.taken: list[Reading] = []
        self.refusing = False
        """The outbox takes nothing more."""
        self.streams: set[bytes] = set()
        self.cursors = dict(cursors)
        self.events: list[tuple[Any, ...]] = []
        self.errors: list[DeviceError] = []
        self.inventory = inventory
        self.bluetooth = Bluetooth(
            Setup(
                radio=radio,
                inventory=inventory,
                config=config,
                cursors=cursors,
                sink=self._sink,
                on_event=self._on_event,
                on_error=self.errors.append,
                clock=clock,
                book=book,
            )
        )
        self.wearables = self.bluetooth.wearables
        self.task = asyncio.create_task(self.bluetooth.run())

    def _sink(self, stream: bytes, readings: Sequence[Reading], cursor: Cursor | None) -> None:
        assert readings, "a cursor becomes durable only together with readings"
        if self.refusing:
            raise OutboxFullError("nothing more can be kept")
        self.streams.add(stream)
        self.taken += readings
        if cursor:
            self.cursors[cursor.device] = cursor

    def _on_event(self, *event: Any) -> None:
        self.events.append(event)

    def codes(self) -> list[str]:
        return [code for code, *_ in self.events]

    def sequences(self, device: str) -> list[int]:
        return [dict(r.extras)[Extra.SEQUENCE] for r in self.taken if r.device == device]

    def causes(self) -> list[str]:
        return [error.cause for error in self.errors]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class Ward:
    """Wearables, and where a gateway keeps what it must remember."""

    def __init__(self, directory: Path) -> None:
        self.state = directory
        self.air = Air()
        self.ledger = LedgerWriter(directory / "ledger.jsonl")
        pace = CgmPace(session_age_s=3600, lag_min=30, interval_min=1)
        self.cgm = Cgm(self.air.link, ledger=self.ledger, seed=1, pace=pace)
        self.meter = GlucoseMeter(self.air.link, ledger=self.ledger, seed=1)
        self.oximeter = PulseOximeter(self.air.link, ledger=self.ledger, seed=1)
        self.socket = directory / "air" / "hci.sock"
        self.bonds = directory / "bonds.json"
        self.devices = directory / "devices.json"
        self.cursors: dict[str, Cursor] = {}
        self.gateways: list[Gateway] = []

    async def assign(self, *profiles: str, wearable: Peripheral | None = None) -> None:
        """Make these wearables the gateway's, paired before; `wearable` is one which is not the ward's own."""
        addresses = {"cgm": CGM_ADDRESS, "plx": PLX_ADDRESS, "gls": GLS_ADDRESS}
        entries = [
            {
                "address": wearable.address if wearable else addresses[profile],
                "profile": profile,
                "stream": STREAMS[wearable.address if wearable else addresses[profile]].hex(),
                "bond": "authenticated",
            }
            for profile in profiles
        ]
        self.devices.write_text(json.dumps({"schema": 3, "devices": entries}))
        bond_beforehand(self.bonds, [entry["address"] for entry in entries])
        for party in (self.cgm, self.oximeter, self.meter, wearable):
            if party and (keys := await BondStore(self.bonds).get(party.address)):
                await party.take_bond(keys)

    async def gateway(self, clock: Clock | None = None, radio: VirtualRadio | None = None, **config: Any) -> Gateway:
        """Start a gateway that knows what the last one left; its clock is this machine's unless it is given."""
        options = {"connect_timeout_s": 2.0, "retry_max_s": 0.3, "racp_timeout_s": 1.0, **config}
        options.setdefault("reset_request", self.state / "adapter-reset")
        section = BleSection(adapter=f"virtual:{self.socket}", **options)
        gateway = Gateway(
            radio or VirtualRadio(self.socket, self.bonds),
            Inventory.load(self.devices),
            self.cursors,
            section,
            clock=clock or system_clock(),
            book=ClockBook.load(self.state / "clocks.json"),
        )
        self.gateways.append(gateway)
        return gateway

    async def radio(self) -> VirtualRadio:
        """The gateway's radio by itself."""
        radio = VirtualRadio(self.socket, self.bonds)
        await radio.open(nobody)
        return radio

    async def stop(self, gateway: Gateway) -> None:
        """End it; its cursors are durable."""
        await gateway.stop()
        self.cursors = gateway.cursors
        self.gateways.remove(gateway)

    async def close(self) -> None:
        for gateway in self.gateways:
            await gateway.stop()
        await self.air.close()
        for wearable in (self.cgm, self.meter, self.oximeter):
            await wearable.stop()
        self.ledger.close()

    def emitted(self, device: str) -> list[dict]:
        lines = [json.loads(line) for line in (self.state / "ledger.jsonl").read_text().splitlines()]
        return [line for line in lines if line["device"] == device and "values" in line]


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    ward = Ward(tmp_path)
    await ward.air.serve(ward.socket)
    for wearable in (ward.cgm, ward.meter, ward.oximeter):
        await wearable.start()
    yield ward
    await ward.close()
