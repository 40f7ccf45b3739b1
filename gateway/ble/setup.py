"""What everything on the Bluetooth side works with, once for all of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.ble.collector import OnError
from gateway.ble.inventory import Inventory
from gateway.ble.radio import Radio
from gateway.clock.book import ClockBook
from gateway.clock.system import Clock
from gateway.config import BleSection
from gateway.model import Cursor, Reading

OnEvent = Callable[..., None]
"""Takes (code, address, further details); `docs/format.md` has the codes."""
Sink = Callable[[bytes, Sequence[Reading], Cursor | None], None]
"""Takes (stream, readings, cursor)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The adapter, the wearables, and where goes what they say."""

    radio: Radio
    inventory: Inventory
    config: BleSection
    cursors: Mapping[str, Cursor]
    """Those that are durable, at any time."""
    sink: Sink
    """What it is given together must become durable together. Where it raises `OutboxFullError`, the link is made anew
    and starts from the durable cursor."""
    on_event: OnEvent
    on_error: OnError
    """Takes each `DeviceError`, after which the rest goes on."""
    clock: Clock
    book: ClockBook
