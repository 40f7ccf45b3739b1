"""E2E-CRC of the CGM service: CRC-16/MCRF4XX, little-endian after the octets it covers (CGMS 1.0.2, 3.11)."""

from binascii import crc_hqx

from gateway.errors import DecodeError

_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
CRC_OCTETS = 2


def e2e_crc(octets: bytes) -> int:
    """The CRC over `octets`: polynomial 0x1021, seed 0xFFFF, bits reflected in and out.

    The standard library has the same polynomial unreflected; turning the bits of each octet around makes up for it.
    """
    crc = crc_hqx(octets.translate(_REVERSED), 0xFFFF)
    return _REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]


def with_crc(octets: bytes) -> bytes:
    """`octets` and their CRC."""
    return octets + e2e_crc(octets).to_bytes(CRC_OCTETS, "little")


def split_crc(value: bytes, size: int, *, present: bool | None) -> tuple[bytes, int | None]:
    """Take the CRC off a value whose content has `size` octets; returns content and CRC, None if there is none.

    `present` is what the CGM feature (0x2AA8) promises; None infers it from the length. Raises `CrcError`.
    """
    if present is None:
        present = len(value) == size + CRC_OCTETS
    if not present:
        return value, None
    if len(value) != size + CRC_OCTETS:
        raise DecodeError(f"{len(value)} octets where {size} and a CRC are due")
    crc = int.from_bytes(value[size:], "little")
    if crc != e2e_crc(value[:size]):
        raise CrcError("the CRC does not match")
    return value[:size], crc


class CrcError(DecodeError):
    """The octets were damaged on their way."""

    cause = "crc"
