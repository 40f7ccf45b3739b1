"""What the control API is asked and what it answers; nothing here but `ReadingSeen` tells a reading's value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.ble.inventory import Device, Profile, Text
from gateway.config import GatewayConfig

SOCKET = "control.sock"

Address = Annotated[str, Field(pattern=r"^([0-9A-F]{2}:){5}[0-9A-F]{2}$")]


def _whole(number: object) -> object:
    """JSON has one kind of number: 7.0 is 7."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


_Utc = Annotated[int, Field(ge=0, lt=1 << 53), BeforeValidator(_whole)]
_Slot = Annotated[int, Field(ge=0, le=255), BeforeValidator(_whole)]
_Passkey = Annotated[int, Field(ge=0, le=999_999), BeforeValidator(_whole)]


class Body(BaseModel):
    """What a call carries. What is excluded from dumps is not for the audit log."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Scanning(Body):
    """How long to listen."""

    seconds: float = Field(default=10.0, gt=0, le=60)


class PairingWanted(Body):
    """With which wearable; as what, if neither a scan nor the inventory says."""

    address: Address
    profile: Profile | None = None


class PairingAnswer(Body):
    """No, or yes; with the six digits on the wearable's display, if that is what was asked."""

    yes: bool
    number: _Passkey | None = Field(default=None, exclude=True)


class NewName(Body):
    """What people call a wearable; stays on the box."""

    name: Text = Field(exclude=True)


class Slot(Body):
    """Readings that name this user of a shared wearable; null: that name none."""

    user: _Slot | None = None


class Assignment(Slot):
    """Since when its stored records are this person's (UTC, milliseconds): from now on, if that is not said."""

    since_ms: _Utc | None = None


class Unassignment(Slot):
    """Or all of them, whomever they name."""

    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A wearable that a scan heard."""

    address: str
    name: str | None
    make: str | None
    """Who made it, as it advertises, or as it said when it was paired."""
    model: str | None
    """As it said when it was paired."""
    profiles: tuple[str, ...]
    rssi_dbm: int
    known: bool
    """Whether it is in the inventory."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person who pairs is to do: compare, enter, show or just-works; all null: nothing now."""

    address: str | None
    method: str | None
    number: int | None


@dataclass(frozen=True, slots=True)
class Stream:
    """A pseudonym: whose readings a wearable yields."""

    stream: str


@dataclass(frozen=True, slots=True)
class Done:
    """It was done."""

    done: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this gateway is to the cloud."""

    gateway: str
    signer: str
    signing_certificate_until: str
    tls_certificate_until: str
    key_list_serial: int
    keys: str
    """file or credential: where the private keys lie."""


@dataclass(frozen=True, slots=True)
class ReadingSeen:
    """A value as it came from a wearable."""

    device: str
    metric: str
    value: str | None
    """Decimal, with the wearable's own precision; null: there is none."""
    unit: str
    """UCUM."""
    at_ms: int
    reasons: tuple[str, ...]
    """Why it is not simply good."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a call was not done."""

    error: str
    """A short fixed word."""
    message: str


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
    uplink_trouble: str | None
    """Why the last connection to a broker ended or could not be made; None while online."""
    adapter: str
    """none: the configuration names none; starting, up or down."""
    adapter_trouble: str | None
    """Why it is down."""
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


@dataclass(frozen=True, slots=True)
class Wearable:
    """A wearable of this gateway: what is known of it, and how it is."""

    known: Device
    now: DeviceStatus


def socket_path(state_dir: Path) -> Path:
    """Where the daemon with this state directory listens, unless its configuration says otherwise."""
    return state_dir / SOCKET


def socket_of(config: GatewayConfig) -> Path:
    """Where the daemon with this configuration listens."""
    return Path(config.control.socket) if config.control.socket else socket_path(config.gateway.state_dir)
