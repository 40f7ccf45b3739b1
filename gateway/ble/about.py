"""What a wearable says of itself, and a fingerprint of what it serves."""

import hashlib

from bleak import BleakClient
from bleak.backends.service import BleakGATTServiceCollection
from bleak.exc import BleakGATTProtocolError

from gateway import health
from gateway.ble.collector import uuid
from gateway.ble.inventory import Identity, Profile
from gateway.errors import DecodeError
from gateway.health import bas, dis
from gateway.health.measurement import Measurement

_MAKE, _MODEL, _SERIAL, _FIRMWARE, _BATTERY = 0x2A29, 0x2A24, 0x2A25, 0x2A26, 0x2A19
_FEATURES = {"bcs": 0x2A9B, "bls": 0x2A49, "cgm": 0x2AA8, "gls": 0x2A51, "plx": 0x2A60, "wss": 0x2A9E}
_LONGEST = 128
_COMMON = ("00001800", "00001801", "0000180f")
"""Access, attributes and battery: BlueZ keeps them to itself, more or less of them with each version."""


async def identity(client: BleakClient) -> Identity:
    """What `client`'s wearable says it is; what it does not tell stays empty. Raises `bleak.exc.BleakError`."""
    make, model, serial, firmware = [await _text(client, number) for number in (_MAKE, _MODEL, _SERIAL, _FIRMWARE)]
    return Identity(make, model, serial, firmware, services_hash(client.services))


async def battery_pct(client: BleakClient) -> int | None:
    """How full its battery is, if it tells. Raises `bleak.exc.BleakError`."""
    told = await _read(client, _BATTERY)
    return told.level_pct if isinstance(told, bas.BatteryLevel) else None


async def features(client: BleakClient, profile: Profile) -> str:
    """What its profile's feature characteristic says, hexadecimal; "" if it has none. Raises `bleak.exc.BleakError`."""
    number = _FEATURES.get(profile)
    return "" if number is None else (await _value(client, number) or b"").hex()


def services_hash(services: BleakGATTServiceCollection) -> str:
    """The same for the same services with the same characteristics, whatever their handles; 16 hexadecimal digits."""
    table = sorted(
        f"{service.uuid} {characteristic.uuid} {sorted(characteristic.properties)}"
        for service in services
        if not service.uuid.startswith(_COMMON)
        for characteristic in service.characteristics
    )
    return hashlib.sha256("\n".join(table).encode()).hexdigest()[:16]


async def _text(client: BleakClient, number: int) -> str:
    told = await _read(client, number)
    text = told.text if isinstance(told, dis.Text) else ""
    return "".join(character for character in text if character.isprintable())[:_LONGEST]


async def _read(client: BleakClient, number: int) -> Measurement | None:
    value = await _value(client, number)
    try:
        return None if value is None else health.decode(number, value)
    except DecodeError:
        return None  # nothing that makes sense


async def _value(client: BleakClient, number: int) -> bytes | None:
    if not client.services.get_characteristic(uuid(number)):
        return None
    try:
        return bytes(await client.read_gatt_char(uuid(number)))
    except BleakGATTProtocolError:
        return None  # it does not say
