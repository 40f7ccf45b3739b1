"""What `iomt-gateway decode` answers: one characteristic and its octets in, one JSON object out.

Numbers keep the digits that the device sent: 36.60 is printed as 36.60, so they are written as text into the JSON and
never pass through a float.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from gateway import health
from gateway.errors import DecodeError
from gateway.health.measurement import VALUE_MAX_OCTETS, Fields, put
from gateway.health.sfloat import Number, decode_float, decode_sfloat

EMPTY: Final = "-"
_TEXT_MAX: Final = 4 * VALUE_MAX_OCTETS
"""Room for a separator after each octet, and to spare."""
LINE_MAX: Final = 2 * _TEXT_MAX
"""More of a line than this is not looked at."""
_SEPARATORS: Final = str.maketrans("-:", "  ")
_UUID: Final = re.compile(r"(?:0x|0000)?([0-9a-f]{4})(?:-?0000-?1000-?8000-?00805f9b34fb)?")
"""A UUID of 16 bits, or one of 32 or 128 bits that stands for it (Bluetooth Core, volume 3, part B, 2.5.1)."""
_BARE: Final[dict[str, tuple[int, Callable[[int], Number]]]] = {
    "SFLOAT": (2, decode_sfloat),
    "FLOAT": (4, decode_float),
}


def decode_line(line: str, *, e2e_crc: bool | None = None) -> str:
    """Answer `CHARACTERISTIC HEX` with {"ok": true, "fields": {...}} or {"ok": false, "error": "..."}, never an error.

    CHARACTERISTIC: a UUID, or SFLOAT or FLOAT for a bare number; HEX: octets, with or without 0x and separators, `-`
    for none. `e2e_crc`: whether CGM values end with a CRC; None infers it from their length.
    """
    name, octets = (*line[:LINE_MAX].split(maxsplit=1), "", "")[:2]
    try:
        return to_json({"ok": True, "fields": fields(name, octets.strip(), e2e_crc=e2e_crc)})
    except DecodeError as error:
        return to_json({"ok": False, "error": str(error)})


def fields(name: str, octets: str, *, e2e_crc: bool | None = None) -> Fields:
    """The fields of a value given as text. Raises `DecodeError`."""
    value = _octets(octets)
    if bare := _BARE.get(name.upper()):
        width, read = bare
        if len(value) != width:
            raise DecodeError(f"{len(value)} octets where {width} are due")
        out: Fields = {}
        put(out, "value", read(int.from_bytes(value, "little")))
        return out
    return health.decode(_uuid(name), value, e2e_crc=e2e_crc).fields()


def _uuid(name: str) -> int:
    found = _UUID.fullmatch(name.lower())
    if found is None:
        raise DecodeError(f"{name[:40]!r} is not a 16-bit UUID")
    return int(found[1], 16)


def _octets(text: str) -> bytes:
    if text == EMPTY:
        return b""
    if not text:
        raise DecodeError(f"the value is missing; {EMPTY} stands for an empty one")
    if len(text) > _TEXT_MAX:
        raise DecodeError(f"is longer than {VALUE_MAX_OCTETS} octets")
    try:
        return bytes.fromhex(text.lower().removeprefix("0x").translate(_SEPARATORS))
    except ValueError:
        raise DecodeError("the value is not hexadecimal") from None


def to_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """`value` as JSON; a `Number` is a JSON number with all its digits."""
    match value:
        case Number():
            return str(value) if value.special is None else "null"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)}: {to_json(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value)
