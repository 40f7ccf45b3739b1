"""Judges Bluetooth: the adapter, whether it is blocked, BlueZ, and the kernel. Sans-IO."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.version import InvalidVersion, Version

from gateway.control.doctor.findings import Finding, fail, ok, skip, warn

_OLDEST_BLUEZ: Final = Version("5.66")
"""The oldest that was tested (docs/bluetooth.md)."""
_CRASHES: Final = "6.1.192"
"""Debian's kernel whose Bluetooth crashes (docs/bluetooth.md)."""


@dataclass(frozen=True, slots=True)
class RadioFacts:
    """An adapter as Linux, rfkill and BlueZ show it."""

    adapter: str
    present: bool
    blocked: tuple[str, ...]
    """How rfkill blocks it: soft, hard or both."""
    kernel: str
    """As in `uname -v`, which names Debian's version."""
    bluez: str | None
    """Its version; None: there is no BlueZ."""
    powered: bool | None
    """None: BlueZ could not be asked."""
    refusal: str
    """Why it could not."""


def radio(facts: RadioFacts) -> Iterator[Finding]:
    """Whether wearables can be heard."""
    name = facts.adapter
    if not name.startswith("hci"):
        yield ok("adapter", f"{name}, as configured")
        return
    absent = f"there is no {name}"
    if facts.present:
        yield ok("adapter", f"{name} is there")
    else:
        yield fail("adapter", absent, "plug it in; hciconfig -a, dmesg; or another name in ble.adapter")
    yield _rfkill(facts) if facts.present else skip("rfkill", absent)
    yield _bluez(facts)
    if facts.bluez is None or not facts.present:
        yield skip("adapter in BlueZ", absent if facts.bluez else "BlueZ is not installed")
    elif facts.powered is None:
        yield fail(
            "adapter in BlueZ", facts.refusal, "systemctl restart bluetooth; is this user in the group bluetooth?"
        )
    elif not facts.powered:
        yield warn(
            "adapter in BlueZ", f"{name} is switched off", "the gateway switches it on; else: bluetoothctl power on"
        )
    else:
        yield ok("adapter in BlueZ", f"{name} is switched on")
    if _CRASHES in facts.kernel:
        yield warn(
            "kernel",
            f"{_CRASHES}: its Bluetooth crashes when a bond is lost",
            "docs/bluetooth.md#kernels: install 6.12",
        )


def _rfkill(facts: RadioFacts) -> Finding:
    if "hard" in facts.blocked:
        return fail("rfkill", f"{facts.adapter} is switched off by a switch of the box", "find the switch")
    if facts.blocked:
        return fail("rfkill", f"{facts.adapter} is blocked", "rfkill unblock bluetooth")
    return ok("rfkill", "nothing blocks it")


def _bluez(facts: RadioFacts) -> Finding:
    if facts.bluez is None:
        return fail("BlueZ", "it is not installed", "apt install bluez")
    try:
        old = Version(facts.bluez) < _OLDEST_BLUEZ
    except InvalidVersion:
        return warn("BlueZ", f"its version cannot be read: {facts.bluez}", "bluetoothctl --version")
    if old:
        return warn(
            "BlueZ", f"{facts.bluez} is older than {_OLDEST_BLUEZ}, the oldest that was tested", "upgrade bluez"
        )
    return ok("BlueZ", facts.bluez)
