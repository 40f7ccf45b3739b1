"""Which wearable belongs to which stream, and whether it was ever paired: `devices.json` in the state directory."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gateway.ble.profiles import PROFILES
from gateway.durable import write_durably
from gateway.errors import ConfigError


def _known(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"is no profile; there is {', '.join(sorted(PROFILES))}")
    return name


Profile = Annotated[str, AfterValidator(_known)]
"""A name in `profiles.PROFILES`."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, Field(pattern=r"^([0-9A-F]{2}:){5}[0-9A-F]{2}$")]
    profile: Profile
    stream: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    paired: bool


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    devices: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A wearable of this gateway."""

    address: str
    """Bluetooth address, upper case with colons."""
    profile: Profile
    stream: bytes
    """16 bytes; never a name."""
    paired: bool
    """It was paired once; if its bond is missing now, something is wrong and a person decides."""


class Inventory:
    """The wearables of this gateway, as its file holds them."""

    def __init__(self, path: Path, devices: tuple[Device, ...]) -> None:
        self._path = path
        self._devices = {device.address: device for device in devices}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path`; without a file there are no wearables. Raises `ConfigError` that names what is wrong."""
        try:
            file = _File.model_validate_json(path.read_bytes(), strict=False)
        except FileNotFoundError:
            return cls(path, ())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
            raise ConfigError("\n".join(lines)) from error
        devices = tuple(Device(e.address, e.profile, bytes.fromhex(e.stream), e.paired) for e in file.devices)
        if len({device.address for device in devices}) != len(devices):
            raise ConfigError(f"{path}: an address appears twice")
        return cls(path, devices)

    @property
    def devices(self) -> tuple[Device, ...]:
        """All wearables, in the file's order."""
        return tuple(self._devices.values())

    def get(self, address: str) -> Device:
        """What is known of `address`. Raises `KeyError` for one that is not here."""
        return self._devices[address]

    def mark_paired(self, address: str) -> Device:
        """Remember, on the disk before this returns, that `address` was paired. Raises `OSError` if it cannot."""
        device = self._devices[address] = replace(self._devices[address], paired=True)
        self._save()
        return device

    def _save(self) -> None:
        entries = tuple(
            _Entry(address=d.address, profile=d.profile, stream=d.stream.hex(), paired=d.paired) for d in self.devices
        )
        text = json.dumps({"schema": 1, "devices": [entry.model_dump() for entry in entries]}, indent=2)
        write_durably(self._path, text.encode())
