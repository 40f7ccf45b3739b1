"""The gateway's radio where there is none: a bumble host whose controller is on the other end of a Unix socket.

Stands in for BlueZ below `bleak`, so that everything above it is the code that runs on real hardware. Bonds lie in a
file, written through to the disk before a pairing counts.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bleak import BleakClient
from bleak.exc import BleakError
from bumble.core import BaseBumbleError
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.hci import Address, HCI_Error, HCI_ErrorCode
from bumble.keys import KeyStore, PairingKeys
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport import open_transport
from bumble.transport.common import Transport

from gateway.durable import write_durably
from gateway.errors import BondError, ConfigError, LinkError
from gateway.lab.bumble_backend import BumbleClient

_ADDRESS = "F0:00:00:00:00:99"
_POWER_ON_S = 5.0


class AcceptingDelegate(PairingDelegate):
    """Has a display and two buttons, and always presses "yes": numeric comparison, for virtual parties only."""

    def __init__(self) -> None:
        # No identity keys are exchanged: everybody here has a static address.
        encryption_only = PairingDelegate.KeyDistribution.DISTRIBUTE_ENCRYPTION_KEY
        super().__init__(
            PairingDelegate.DISPLAY_OUTPUT_AND_YES_NO_INPUT,
            local_initiator_key_distribution=encryption_only,
            local_responder_key_distribution=encryption_only,
        )

    async def compare_numbers(self, number: int, digits: int) -> bool:
        """Confirm that both sides show the same number."""
        del number, digits
        return True


def secure_pairing(_connection: Connection) -> PairingConfig:
    """LE Secure Connections with protection against a man in the middle, and a bond."""
    return PairingConfig(sc=True, mitm=True, bonding=True, delegate=AcceptingDelegate())


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


def _key_missing(error: BaseException | None) -> bool:
    return isinstance(error, HCI_Error) and error.error_code == HCI_ErrorCode.PIN_OR_KEY_MISSING_ERROR


class VirtualRadio:
    """A `gateway.ble.radio.Radio` whose controller is virtual."""

    def __init__(self, host: Device, transport: Transport) -> None:
        self._host = host
        self._transport = transport

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the controller has gone."""
        return self._transport.source.terminated

    @property
    def host(self) -> Device:
        """The host, for a `BleakScanner(backend=BumbleScanner, host=...)`."""
        return self._host

    async def connect(self, address: str, *, timeout_s: float, on_disconnect: Callable[[], None]) -> BleakClient:
        """Connect, encrypt if bonded, discover services.

        Raises `BleakError`; `BondError` if the wearable has no key for the bond that is kept here.
        """
        client = BleakClient(
            address,
            disconnected_callback=lambda _client: on_disconnect(),
            timeout=timeout_s,
            backend=BumbleClient,
            host=self._host,
        )
        try:
            await client.connect()
        except BleakError as error:
            if _key_missing(error.__cause__):
                raise BondError(f"{address}: has forgotten its bond; pair it again") from error
            raise
        return client

    async def pair(self, client: BleakClient) -> None:
        """Pair by numeric comparison. Raises `LinkError` if that makes no authenticated bond."""
        await client.pair()
        if not await self.authenticated(client):
            raise LinkError(f"{client.address}: pairing made no authenticated bond")

    async def bonded(self, address: str) -> bool:
        """Whether keys for `address` are kept here."""
        assert self._host.keystore  # noqa: S101 - set before power-on
        return await self._host.keystore.get(address) is not None

    async def authenticated(self, client: BleakClient) -> bool:
        """Whether the link is encrypted with a key that a man in the middle could not have."""
        assert self._host.keystore  # noqa: S101 - set before power-on
        keys = await self._host.keystore.get(client.address)
        backend = client._backend  # noqa: SLF001 - bleak has no public way to its backend
        encrypted = isinstance(backend, BumbleClient) and backend.encrypted
        return encrypted and keys is not None and keys.ltk is not None and keys.ltk.authenticated

    async def close(self) -> None:
        """Leave the air."""
        await self._transport.close()


async def open_radio(socket_path: Path, keystore: Path) -> VirtualRadio:
    """Attach to the air at `socket_path`; bonds lie in `keystore`.

    Raises `ConfigError` if nobody listens there or the bonds cannot be read, `LinkError` if the controller is mute.
    """
    bonds = BondStore(keystore)
    try:
        transport = await open_transport(f"unix-client:{socket_path}")
    except OSError as error:
        raise ConfigError(f"{socket_path}: no virtual radio listens there: {error.strerror}") from error
    host = Device.from_config_with_hci(
        DeviceConfiguration(name="gateway", address=Address(_ADDRESS)), transport.source, transport.sink
    )
    host.keystore = bonds
    host.pairing_config_factory = secure_pairing
    try:
        async with asyncio.timeout(_POWER_ON_S):
            await host.power_on()
    except (TimeoutError, BaseBumbleError, BleakError) as error:
        await transport.close()
        raise LinkError(f"{socket_path}: the virtual controller does not answer") from error
    return VirtualRadio(host, transport)
