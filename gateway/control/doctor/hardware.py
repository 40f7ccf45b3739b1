"""Gathers what Linux shows of the box: clock, disk, card, and Bluetooth. Asks and changes nothing."""

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.ble.dbus import ADAPTER, BlueZ
from gateway.clock.keeper import RELEASED_MS, Believe
from gateway.clock.system import Clock
from gateway.config import GatewayConfig
from gateway.control.doctor.box import CardFacts, ClockFacts, DiskFacts
from gateway.control.doctor.radio import RadioFacts
from gateway.errors import AdapterError

_BLOCK: Final = Path("/sys/dev/block")
_BLUETOOTH: Final = Path("/sys/class/bluetooth")
_TOOL_S: Final = 10.0


def clock_facts(believe: Believe, *, before_certificate: bool) -> ClockFacts:
    """As the gateway would judge it if it started now."""
    clock = Clock.start(believe, not_before_ms=RELEASED_MS)
    clock.look()
    return ClockFacts(clock.source, clock.error_ms(), before_certificate)


def disk_facts(config: GatewayConfig) -> DiskFacts:
    """Raises `OSError` if there is no state directory, or this user may not look into it."""
    place = config.gateway.state_dir
    system = os.statvfs(place)
    outbox = place / "outbox"
    return DiskFacts(
        str(place),
        free_bytes=system.f_bavail * system.f_frsize,
        read_only=bool(system.f_flag & os.ST_RDONLY),
        outbox_bytes=sum(each.stat().st_blocks * 512 for each in outbox.iterdir()) if outbox.exists() else 0,
        capacity_bytes=config.outbox.capacity_bytes,
        reserve_bytes=config.outbox.reserve_bytes,
    )


def card_facts(place: Path, years: float | None) -> CardFacts:
    """The medium of a directory, and its wear if it is an eMMC, which alone tells. Raises `OSError`."""
    number = place.stat().st_dev
    node = (_BLOCK / f"{os.major(number)}:{os.minor(number)}").resolve()
    if not node.exists():
        return CardFacts("", None, years)
    disk = node.parent if (node / "partition").exists() else node
    with suppress(OSError, ValueError):
        estimates = (disk / "device" / "life_time").read_text(encoding="ascii").split()
        return CardFacts(disk.name, max(int(each, 16) for each in estimates), years)
    return CardFacts(disk.name, None, years)


async def radio_facts(adapter: str) -> RadioFacts:
    """Of an adapter such as "hci0"; of any other word nothing is looked at."""
    if not adapter.startswith("hci"):
        return RadioFacts(adapter, False, (), "", None, None, "")  # noqa: FBT003 - nothing of it is asked
    powered, refusal = None, ""
    try:
        bluez = await BlueZ.connect(adapter)
        try:
            powered = bool(await bluez.get(bluez.path, ADAPTER, "Powered"))
        finally:
            await bluez.close()
    except AdapterError as error:
        refusal = str(error)
    return RadioFacts(
        adapter,
        present=(_BLUETOOTH / adapter).exists(),
        blocked=_blocked(adapter),
        kernel=platform.version(),
        bluez=_bluez_version(),
        powered=powered,
        refusal=refusal,
    )


def _blocked(adapter: str) -> tuple[str, ...]:
    """What rfkill says of it (Documentation/ABI/stable/sysfs-class-rfkill)."""
    blocks = set()
    for switch in (_BLUETOOTH / adapter).glob("rfkill*"):
        for kind in ("soft", "hard"):
            with suppress(OSError):
                if (switch / kind).read_text(encoding="ascii").strip() == "1":
                    blocks.add(kind)
    return tuple(sorted(blocks))


def _bluez_version() -> str | None:
    try:
        said = subprocess.run(
            ("bluetoothctl", "--version"), capture_output=True, text=True, check=False, timeout=_TOOL_S
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.rpartition(" ")[2].strip() or None
