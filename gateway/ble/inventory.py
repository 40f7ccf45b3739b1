"""The wearables of this gateway: `devices.json` in the state directory, schema 3; schemas 1 and 2 are taken over.

What a person or a pairing decides is on the disk before it counts. What was merely seen (signal, battery, when) is
written along with that, and by `save`.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from gateway.ble.pairing import Security
from gateway.ble.profiles import PROFILES
from gateway.durable import write_durably
from gateway.errors import ConfigError


def _known(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"is no profile; there is {', '.join(sorted(PROFILES))}")
    return name


Profile = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": sorted(PROFILES)})]
"""A name in `profiles.PROFILES`."""

_FORM = ConfigDict(extra="forbid", ser_json_bytes="hex", val_json_bytes="hex")
_SCHEMA: Literal[3] = 3

TEXT_MAX: Final = 128
"""Characters of a name, or of what a wearable tells."""
Text = Annotated[str, Field(max_length=TEXT_MAX)]
Stream = Annotated[
    bytes, Field(min_length=16, max_length=16), WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{32}$"})
]
_BONDS = {level.name.lower(): level for level in Security}


def _bond(name: object) -> Security:
    if name not in _BONDS:
        raise ValueError(f"is none of {', '.join(_BONDS)}")
    return _BONDS[str(name)]


_Bond = Annotated[
    Security,
    BeforeValidator(_bond),
    PlainSerializer(lambda bond: bond.name.lower()),
    WithJsonSchema({"type": "string", "enum": list(_BONDS)}),
]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a wearable says it is (Device Information, 0x180A), and which services it has; "" where it does not say."""

    __pydantic_config__: ClassVar = _FORM

    make: Text = ""
    model: Text = ""
    serial: Text = ""
    firmware: Text = ""
    services: Text = ""
    """A hash of its service table."""


@dataclass(frozen=True, slots=True)
class UserSlot:
    """One of the users whom a shared wearable tells apart, and whose readings those are."""

    __pydantic_config__: ClassVar = _FORM

    user: Annotated[int, Field(ge=0, le=255)]
    """As the wearable counts its users."""
    stream: Stream
    since_ms: int
    """As `Device.since_ms`, for this one."""


@dataclass(frozen=True, slots=True)
class Device:
    """A wearable of this gateway."""

    __pydantic_config__: ClassVar = _FORM

    address: Annotated[str, Field(pattern=r"^([0-9A-F]{2}:){5}[0-9A-F]{2}$")]
    """Bluetooth address, upper case with colons."""
    profile: Profile
    stream: Stream | None = None
    """16 bytes, never a name: whose readings those are that name no user; None: nobody said, so there are none."""
    since_ms: int = 0
    """Stored records from before this moment (UTC milliseconds since 1970) are not this person's."""
    users: tuple[UserSlot, ...] = ()
    """A user slot that is not here yields nothing, whatever `stream` is."""
    users_seen: tuple[int, ...] = ()
    """Users whom readings named while they were nobody's."""
    bond: _Bond = Security.NONE
    """What its pairing was worth; if the bond is missing now, a person decides."""
    bond_mark: Text = ""
    """Tells that bond from any other with the same wearable; "" if it was made elsewhere."""
    name: Text = ""
    """What a person calls it; stays on this box."""
    identity: Identity = field(default_factory=Identity)
    quarantine: Text | None = None
    """Why nothing is taken from it until a person releases it."""
    shares_serial: bool = False
    """A person has released it although another wearable tells the same serial number."""
    last_seen_ms: int | None = None
    rssi_dbm: int | None = None
    battery_pct: int | None = None
    features: Text = ""
    """What its profile's feature characteristic says (hexadecimal)."""

    @property
    def assigned(self) -> bool:
        """Somebody said whose readings these are."""
        return bool(self.streams)

    @property
    def streams(self) -> tuple[bytes, ...]:
        """All that it feeds."""
        return (*filter(None, [self.stream]), *(slot.stream for slot in self.users))

    @property
    def unmapped_users(self) -> tuple[int, ...]:
        """Users whom its readings have named, and who are nobody still."""
        return tuple(user for user in self.users_seen if self.owner(user) is None)

    def owner(self, user: int | None) -> tuple[bytes, int] | None:
        """The stream of readings that name `user` (None: that name none), and since when; None: they are nobody's."""
        if user is None:
            return None if self.stream is None else (self.stream, self.since_ms)
        return next(((slot.stream, slot.since_ms) for slot in self.users if slot.user == user), None)

    def assign(self, stream: bytes, *, user: int | None, since_ms: int) -> Self:
        """From now on those readings go to `stream`; every other slot stays as it is."""
        if user is None:
            return replace(self, stream=stream, since_ms=since_ms)
        slots = {slot.user: slot for slot in self.users} | {user: UserSlot(user, stream, since_ms)}
        return replace(self, users=tuple(slots[each] for each in sorted(slots)))

    def unassign(self, user: int | None) -> Self:
        """Those readings are nobody's from now on; every other slot stays as it is."""
        if user is None:
            return replace(self, stream=None)
        return replace(self, users=tuple(slot for slot in self.users if slot.user != user))

    def unassign_all(self) -> Self:
        """Nothing of it is anybody's from now on."""
        return replace(self, stream=None, users=())


@dataclass(frozen=True, slots=True)
class _File:
    __pydantic_config__: ClassVar = _FORM

    schema: Literal[3]
    devices: tuple[Device, ...]


_FILE = TypeAdapter(_File)


class Inventory:
    """The wearables of this gateway, as its file holds them."""

    def __init__(self, path: Path, devices: tuple[Device, ...]) -> None:
        self._path = path
        self._devices = {device.address: device for device in devices}
        self._seen = False

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path`; without a file there are no wearables. Raises `ConfigError` that names what is wrong."""
        try:
            document = json.loads(path.read_bytes())
            file = _FILE.validate_json(json.dumps(_present(document)))
        except FileNotFoundError:
            return cls(path, ())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
            raise ConfigError("\n".join(lines)) from error
        except ValueError as error:
            raise ConfigError(f"{path}: is not JSON: {error}") from error
        if len({device.address for device in file.devices}) != len(file.devices):
            raise ConfigError(f"{path}: an address appears twice")
        for device in file.devices:
            if len({slot.user for slot in device.users}) != len(device.users):
                raise ConfigError(f"{path}: {device.address}: a user appears twice")
        return cls(path, file.devices)

    @property
    def devices(self) -> tuple[Device, ...]:
        """All wearables, in the file's order."""
        return tuple(self._devices.values())

    def get(self, address: str) -> Device:
        """What is known of `address`. Raises `KeyError` for one that is not here."""
        return self._devices[address]

    def __contains__(self, address: str) -> bool:
        return address in self._devices

    def put(self, device: Device) -> None:
        """Add or replace a wearable, on the disk before this returns. Raises `OSError`; then nothing has changed."""
        self._write(self._devices | {device.address: device})

    def remove(self, address: str) -> None:
        """Forget a wearable, on the disk before this returns. Raises `OSError`; then nothing has changed."""
        self._write({known: device for known, device in self._devices.items() if known != address})

    def seen(self, device: Device) -> None:
        """Take note of what a wearable shows: when it was heard, signal, battery; `save` makes it durable."""
        self._devices[device.address] = device
        self._seen = True

    def save(self) -> None:
        """Write what was seen since the last time. Raises `OSError`."""
        if self._seen:
            self._write(self._devices)

    def _write(self, devices: dict[str, Device]) -> None:
        file = _FILE.dump_python(_File(_SCHEMA, tuple(devices.values())), mode="json")
        write_durably(self._path, json.dumps(file, indent=2).encode())
        self._devices = devices
        self._seen = False


def _present(document: Any) -> Any:  # noqa: ANN401 - JSON
    """`document` in today's schema."""
    match document:
        case {"schema": 1, "devices": [*entries], **rest} if not rest:
            return {"schema": _SCHEMA, "devices": [_from_second(_from_first(entry)) for entry in entries]}
        case {"schema": 2, "devices": [*entries], **rest} if not rest:
            return {"schema": _SCHEMA, "devices": [_from_second(entry) for entry in entries]}
    return document


def _from_first(entry: Any) -> Any:  # noqa: ANN401 - JSON
    """Schema 1 knew only bonds that were authenticated."""
    match entry:
        case {"paired": bool(paired), **rest}:
            return {**rest, "bond": "authenticated" if paired else "none"}
    return entry


def _from_second(entry: Any) -> Any:  # noqa: ANN401 - JSON
    """In schema 2 all slots had the device's time, which was that of the newest assignment of any of them."""
    match entry:
        case {"users": [*users], **rest}:
            since_ms = rest.get("since_ms", 0)
            return {**rest, "users": [_slot_from_second(pair, since_ms) for pair in users]}
    return entry


def _slot_from_second(pair: Any, since_ms: Any) -> Any:  # noqa: ANN401 - JSON
    match pair:
        case [user, stream]:
            return {"user": user, "stream": stream, "since_ms": since_ms}
    return pair
