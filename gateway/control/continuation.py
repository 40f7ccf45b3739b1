"""Where a restored gateway's history goes on: `continues.json` in the state directory, written by a restore.

A backup holds no bundle and no place in a chain, as two boxes could then go on from one. The receiver knows the last
bundle of each lane that it has; the first chains of the restored box name those as what comes before them. If the old
box still seals, two chains come after one bundle, and that is a fork, which the receiver tells (docs/format.md).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from gateway.durable import give_to_owner, write_durably
from gateway.errors import ConfigError
from gateway.model import Lane, Link

FILE: Final = "continues.json"
_LINK: Final = re.compile(r"([0-9a-f]{32}):(\d{1,15}):([0-9a-f]{64})")


def link_text(link: Link) -> str:
    """CHAIN:NO:HASH, as people and files have it."""
    return f"{link.chain.hex()}:{link.no}:{link.hash.hex()}"


def parse_link(text: str) -> Link:
    """What `link_text` wrote. Raises `ConfigError`."""
    found = _LINK.fullmatch(text.lower())
    if found is None:
        raise ConfigError(f"{text!r}: is not CHAIN:NO:HASH, as `iomt-receiver heads` prints it")
    return Link(bytes.fromhex(found[1]), int(found[2]), bytes.fromhex(found[3]))


def _is_link(text: str) -> str:
    try:
        parse_link(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


class Continuation(BaseModel):
    """Of which backup this box was made, and after which bundles, by lane, its history goes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backup_ms: int
    data: Annotated[str, AfterValidator(_is_link)] | None = None
    urgent: Annotated[str, AfterValidator(_is_link)] | None = None

    @classmethod
    def make(cls, backup_ms: int, after: Mapping[Lane, Link]) -> "Continuation":
        """From links."""
        return cls(backup_ms=backup_ms, **{lane.name.lower(): link_text(link) for lane, link in after.items()})

    @property
    def after(self) -> dict[Lane, Link]:
        """What the first chain of each lane names as the one before; a lane without any is not in it."""
        told = {Lane.DATA: self.data, Lane.URGENT: self.urgent}
        return {lane: parse_link(text) for lane, text in told.items() if text is not None}

    def write(self, state_dir: Path) -> None:
        """Durably. Raises `OSError`."""
        write_durably(state_dir / FILE, self.model_dump_json(indent=1).encode())
        give_to_owner(state_dir / FILE)


def load(state_dir: Path) -> Continuation | None:
    """What a restore left; None: this box was not restored. Raises `ConfigError`."""
    path = state_dir / FILE
    try:
        return Continuation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: is damaged; restore again: {error.errors()[0]['msg']}") from error
