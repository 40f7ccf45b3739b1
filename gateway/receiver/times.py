"""Records whose time counts from a boot of their gateway, and the anchors that say when that boot was. Sans-IO.

The store corrects such records by the best anchor of their boot, whichever comes first.
"""

from collections.abc import Iterable, Iterator

from gateway.envelope.layout import ID_BYTES
from gateway.envelope.records import Columns
from gateway.model import Event, Extra, ExtraValue, Gap
from gateway.receiver.plan import Anchor, BootTime

_ANCHOR = "clock-anchor"


def anchors(gateway: str, events: Iterable[Event]) -> Iterator[Anchor]:
    """What a gateway's own events `clock-anchor` say: [boot, milliseconds since it, UTC, uncertainty, ...]."""
    for event in events:
        match event.details:
            case (bytes(boot), int(boot_ms), int(wall_ms), int(error_ms), *_) if (
                event.code == _ANCHOR and len(boot) == ID_BYTES and min(boot_ms, wall_ms, error_ms) >= 0
            ):
                yield Anchor(gateway, boot, boot_ms, wall_ms, error_ms)


def boot_times(first: int, content: Columns | tuple[Event, ...] | Gap) -> Iterator[BootTime]:
    """Those of a part, whose records are numbered from `first`; an extra of another type or value says nothing."""
    if isinstance(content, Gap):
        return
    if not isinstance(content, Columns):
        for no, event in enumerate(content, first):
            if event.boot is not None:
                yield BootTime(no, event.boot, event.time_ms, 0)
    elif Extra.BOOT in content.extras and Extra.BOOT_MS in content.extras:
        nothing: list[ExtraValue] = [None] * len(content)
        uncertainties = content.extras.get(Extra.UNCERTAINTY_MS, nothing)
        columns = (content.extras[Extra.BOOT], content.extras[Extra.BOOT_MS], uncertainties)
        for no, (boot, boot_ms, told_ms) in enumerate(zip(*columns, strict=True), first):
            if isinstance(boot, bytes) and len(boot) == ID_BYTES and isinstance(boot_ms, int):
                yield BootTime(no, boot, boot_ms, max(told_ms, 0) if isinstance(told_ms, int) else 0)
