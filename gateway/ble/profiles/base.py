"""What all profiles share: what the collector asks of them, and how they read and mark what a wearable says."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from gateway import health
from gateway.ble.progress import Item, Numbering
from gateway.errors import DeviceError, ProcedureError
from gateway.health.measurement import Measurement
from gateway.health.reading import in_order
from gateway.model import Cursor, Extra, ExtraValue, Frame, Reading, Reason

M = TypeVar("M", bound=Measurement)

RACP = 0x2A52

Read = Callable[[int], Awaitable[bytes | None]]


class Profile(Protocol):
    """One kind of wearable, for one connection."""

    @property
    def characteristics(self) -> tuple[int, ...]:
        """What to subscribe to."""

    @property
    def numbering(self) -> Numbering:
        """What its sequence numbers mean."""

    @property
    def stores(self) -> bool:
        """Whether it stores records that can be asked for; once prepared."""

    @property
    def session(self) -> str:
        """What its numbers count within now; a counter's records each tell their own."""

    async def prepare(self, read: Read, cursor: Cursor | None) -> None:
        """Learn from the device what its values need to be understood; `cursor` is where it stood before.

        Raises `DeviceError`.
        """

    def items(self, frame: Frame) -> tuple[list[Item], DeviceError | None]:
        """What `frame` says, and what was wrong with the rest of it. Raises `DecodeError` if nothing can be read."""

    def left(self) -> list[Item]:
        """The link has ended: what still waited for something else."""


async def required(read: Read, characteristic: int) -> bytes:
    """Its value. Raises `ProcedureError` if the device lacks it or will not tell."""
    value = await read(characteristic)
    if value is None:
        raise ProcedureError(f"its characteristic {characteristic:#06x} cannot be read")
    return value


def told(kind: type[M], characteristic: int, value: bytes, *, e2e_crc: bool | None = None) -> M:
    """What `value` says. Raises `DecodeError`."""
    measurement = health.decode(characteristic, value, e2e_crc=e2e_crc)
    assert isinstance(measurement, kind)  # noqa: S101 - each characteristic has one kind
    return measurement


def marked(
    readings: tuple[Reading, ...], more: dict[Extra, ExtraValue], reasons: Reason = Reason.NONE
) -> tuple[Reading, ...]:
    """Add `more` to the extras of each, and `reasons` to its reasons."""
    own = ({Extra(key): value for key, value in reading.extras} for reading in readings)
    return tuple(
        replace(reading, reasons=reading.reasons | reasons, extras=in_order(extras | more))
        for reading, extras in zip(readings, own, strict=True)
    )
