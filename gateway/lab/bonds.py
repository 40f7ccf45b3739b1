"""Bonds of virtual parties in a file: what a pairing leaves behind, or what one would have left."""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bumble.keys import KeyStore, PairingKeys

from gateway.durable import write_durably
from gateway.errors import ConfigError


def bond_beforehand(path: Path, addresses: Iterable[str]) -> None:
    """Write a gateway's bonds with wearables as if each had been paired by six digits; the wearables get them too."""
    keys = {
        address: PairingKeys(ltk=PairingKeys.Key(secrets.token_bytes(16), authenticated=True)).to_dict()
        for address in addresses
    }
    write_durably(path, json.dumps(keys, indent=2).encode())


class BondStore(KeyStore):
    """Link keys by peer address in a JSON file of mode 0600, renamed into place once it is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bonds = _load_bonds(path)

    async def get(self, name: str) -> PairingKeys | None:
        """Keys for the peer, or None. bumble marks a public address by a suffix; here all are random."""
        keys = self._bonds.get(name)
        return PairingKeys.from_dict(keys) if keys else None

    async def get_all(self) -> list[tuple[str, PairingKeys]]:
        """All peers with their keys."""
        return [(name, PairingKeys.from_dict(keys)) for name, keys in self._bonds.items()]

    async def update(self, name: str, keys: PairingKeys) -> None:
        """Keep keys of a peer."""
        self._bonds[name] = keys.to_dict()
        self._save()

    async def delete(self, name: str) -> None:
        """Forget a peer."""
        if self._bonds.pop(name, None):
            self._save()

    def _save(self) -> None:
        """Written on the loop: it happens once per pairing, and the pairing must wait for it."""
        write_durably(self._path, json.dumps(self._bonds, indent=2).encode())


def _load_bonds(path: Path) -> dict[str, dict[str, Any]]:
    try:
        bonds: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for keys in bonds.values():
            PairingKeys.from_dict(keys)
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: is not a file of bonds: {error}") from error
    return bonds
