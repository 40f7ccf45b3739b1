"""How the wearables' clocks stood when they were last looked at, kept across restarts: `clocks.json`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.clock.device import DeviceClock, Look
from gateway.durable import write_durably
from gateway.errors import ConfigError

_SAVE_MS = 6 * 3_600_000
"""A look that tells nothing new is written only so often: cards wear out."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Annotated[Literal[1], Field(alias="schema", serialization_alias="schema")] = 1
    clocks: dict[str, DeviceClock] = {}


class ClockBook:
    """The clocks of all wearables, by address. Only looks in UTC stand in it."""

    def __init__(self, path: Path, clocks: dict[str, DeviceClock]) -> None:
        self._path = path
        self._clocks = clocks
        self._saved_ms = {address: clock.last.gateway_ms for address, clock in clocks.items()}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path`; without a file no clock was seen yet. Raises `ConfigError` that names what is wrong."""
        try:
            return cls(path, dict(_File.model_validate_json(path.read_bytes()).clocks))
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise ConfigError(f"{path}: is damaged; remove it, only how clocks stood is lost: {error}") from error

    @property
    def newest_ms(self) -> int:
        """The newest time that was ever noted; 0 if there is none."""
        return max(self._saved_ms.values(), default=0)

    def get(self, address: str) -> DeviceClock | None:
        """What is known of a wearable's clock."""
        return self._clocks.get(address)

    def seen(self, address: str, look: Look) -> DeviceClock:
        """Note one look more; on the disk before this returns if it tells of a clock that was set, else now and then.

        Raises `OSError` if it cannot be written.
        """
        before = self._clocks.get(address)
        clock = self._clocks[address] = before.seen(look) if before else DeviceClock.new(look)
        undisturbed = before is not None and clock.first == before.first
        if not undisturbed or look.gateway_ms - self._saved_ms[address] >= _SAVE_MS:
            self._saved_ms[address] = look.gateway_ms
            write_durably(self._path, _File(clocks=self._clocks).model_dump_json(by_alias=True, indent=2).encode())
        return clock

    def forget(self) -> None:
        """The gateway's own clock was set: what was compared with it says nothing any more."""
        self._clocks.clear()
