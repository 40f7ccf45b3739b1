"""What the control API answers.

GET /v1/status: a JSON object, see `Status`. The socket is the owner's alone; nothing here tells a reading's value.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.observe.http import Page

SOCKET = "control.sock"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One wearable: its address, profile and link, whether its stored records are all here, and its clock."""

    address: str
    profile: str
    state: str
    backfill: str
    """none: it stores nothing; open: there is a gap, or may be; complete."""
    clock_behind_s: float | None
    """What must be added to its local time to get UTC; None if it was never seen."""
    clock_drift_ppm: float | None
    """By how much it gains; None if it was not watched for days."""


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at a glance."""

    gateway: str
    version: str
    uptime_s: int
    online: bool
    clock: str
    """What vouches for the gateway's clock: ntp, battery or system, else unknown."""
    chain: str
    bundles_waiting: int
    bytes_waiting: int
    oldest_waiting_s: float
    outbox_hours_left: float | None
    """How long the room lasts without an uplink at the present pace; None: for ever."""
    card_years: float | None
    """How long a new card lasts at the present pace; None: for ever."""
    trouble: str | None
    """Why nothing can be made durable now."""
    records_sealed: int
    bundles_acknowledged: int
    bundles_receipted: int
    bundles_parked: int
    key_list_serial: int
    devices: tuple[DeviceStatus, ...]


def socket_path(state_dir: Path) -> Path:
    """Where the daemon with this state directory listens."""
    return state_dir / SOCKET


def pages(status: Callable[[], Status]) -> dict[str, Page]:
    """The API's paths."""
    return {"/v1/status": Page(lambda: json.dumps(asdict(status())).encode(), "application/json")}
