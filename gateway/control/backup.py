"""A backup of a gateway: configuration, identity, wearables and their bonds, sealed to an operator's key.

What waits in the outbox is not in it, nor any key that sealed it (those are in memory alone), nor a place in a chain.
The file is CBOR [1, the key's kid, enc, ciphertext]: HPKE in base mode (RFC 9180) with the suites of the envelope,
info "iomt-gateway/1 backup", over CBOR [1, gateway id, time ms, version, [[name, content], ...]].
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.ble.inventory import Inventory
from gateway.config import GatewayConfig, IdentitySection
from gateway.envelope import cbor
from gateway.envelope.keys import Recipient, RecipientKey
from gateway.errors import ConfigError, DecryptError, IdentityError, MalformedError
from gateway.identity.files import read_private

INFO: Final = b"iomt-gateway/1 backup"
BLUETOOTH: Final = Path("/var/lib/bluetooth")
"""Where BlueZ keeps bonds; root's alone."""
CONFIG: Final = "config"
SECRETS: Final = ("tls_key", "signing_key")
PUBLIC: Final = ("ca", "tls_cert", "signing_cert", "fleet_root", "key_list")
STATE: Final = ("devices.json", "clocks.json", "bonds.json", "keys.cbor")
_VERSION: Final = 1
_ADDRESS: Final = r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}"
_NAME: Final = re.compile(
    rf"config|identity/(?:{'|'.join((*SECRETS, *PUBLIC, 'crl'))})|state/(?:{'|'.join(map(re.escape, STATE))})"
    rf"|bluetooth/{_ADDRESS}/(?:settings|identity|{_ADDRESS}/(?:info|attributes))"
)


@dataclass(frozen=True, slots=True)
class Backup:
    """What was taken, by name."""

    gateway: str
    time_ms: int
    version: str
    files: Mapping[str, bytes] = field(repr=False)

    def bonds(self) -> int:
        """How many bonds of BlueZ are in it."""
        return sum(name.startswith("bluetooth/") and name.endswith("/info") for name in self.files)


def gather(path: Path, config: GatewayConfig, *, now_ms: int, bluetooth: Path = BLUETOOTH) -> Backup:
    """Read everything of the gateway with the configuration at `path`, whether it runs or not.

    Keys that are not in files (`identity.keys`) stay where they are. BlueZ's bonds are there only for root.
    Raises `ConfigError`, `IdentityError`.
    """
    try:
        files = {CONFIG: path.read_bytes(), **dict(_identity(config.identity)), **dict(_state(config))}
        addresses = [each.address for each in Inventory.load(config.gateway.state_dir / STATE[0]).devices]
        files |= dict(_bonds(bluetooth, addresses))
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return Backup(config.gateway.id, now_ms, __version__, files)


def crl_path(identity: IdentitySection) -> Path:
    """Where the revocation list lies."""
    return identity.ca.with_suffix(".crl")


def _identity(identity: IdentitySection) -> Iterator[tuple[str, bytes]]:
    if identity.keys == "file":
        for role in SECRETS:
            yield f"identity/{role}", read_private(getattr(identity, role))
    for role in PUBLIC:
        yield f"identity/{role}", getattr(identity, role).read_bytes()
    if crl_path(identity).exists():
        yield "identity/crl", crl_path(identity).read_bytes()


def _state(config: GatewayConfig) -> Iterator[tuple[str, bytes]]:
    for name in STATE:
        path = config.gateway.state_dir / name
        if path.exists():
            yield f"state/{name}", path.read_bytes()


def _bonds(bluetooth: Path, addresses: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what BlueZ keeps of the inventory's wearables, for each adapter; nothing for whoever may not look."""
    try:
        adapters = [each for each in bluetooth.iterdir() if re.fullmatch(_ADDRESS, each.name)]
    except (FileNotFoundError, PermissionError):
        return
    for adapter in adapters:
        kept = [adapter / address / name for address in addresses for name in ("info", "attributes")]
        for path in (adapter / "settings", adapter / "identity", *kept):
            if path.exists():
                yield f"bluetooth/{path.relative_to(bluetooth)}", path.read_bytes()


def seal(backup: Backup, recipient: Recipient) -> bytes:
    """The file, which only the holder of the private key can open."""
    files = [[name, content] for name, content in sorted(backup.files.items())]
    payload = cbor.encode([_VERSION, backup.gateway, backup.time_ms, backup.version, files])
    return cbor.encode([_VERSION, recipient.kid, *recipient.wrap(payload, INFO)])


def unseal(data: bytes, key: RecipientKey) -> Backup:
    """What is in a file. Raises `ConfigError` if it is no backup, `IdentityError` if it is sealed to another key."""
    try:
        match cbor.decode(data):
            case [1, bytes(kid), bytes(enc), bytes(sealed)]:
                if kid != key.kid:
                    raise IdentityError(f"the backup is sealed to the key {kid.hex()}, and this is {key.kid.hex()}")
                return _decode(cbor.decode(key.unwrap(enc, sealed, INFO)))
    except DecryptError as error:
        raise IdentityError("the backup does not open: it was changed, or cut") from error
    except MalformedError as error:
        raise ConfigError(f"not a backup: {error}") from error
    raise ConfigError("not a backup, or one of a later version")


def _decode(payload: object) -> Backup:
    match payload:
        case [1, str(gateway), int(time_ms), str(version), [*entries]]:
            return Backup(gateway, time_ms, version, dict(map(_entry, entries)))
    raise MalformedError("what is in it is of a later version")


def _entry(item: object) -> tuple[str, bytes]:
    match item:
        case [str(name), bytes(content)] if _NAME.fullmatch(name):
            return name, content
    raise MalformedError("it holds a file that no backup has")
