"""Device information (service 0x180A; DIS 1.1): who made the wearable and which one it is."""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from gateway.errors import DecodeError
from gateway.health.measurement import U8, U16, Fields, Measurement, Wire, on_wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Measurement):
    """Manufacturer 0x2A29, model 0x2A24, serial number 0x2A25, firmware 0x2A26, hardware 0x2A27, software 0x2A28."""

    FLAGS_OCTETS: ClassVar[int] = 0

    text: str

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> Self:  # noqa: ARG003 - never has one
        """Read UTF-8; NULs at the end, which some devices send, are no part of it. Raises `DecodeError`."""
        try:
            return cls(text=value.rstrip(b"\0").decode())
        except UnicodeDecodeError:
            raise DecodeError("is not UTF-8") from None

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """UTF-8."""
        return self.text.encode()

    def fields(self) -> Fields:
        """The text."""
        return {"text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemId(Measurement):
    """0x2A23: an EUI-64, sent last octet first."""

    FLAGS_OCTETS: ClassVar[int] = 0

    system_id: str = on_wire(
        Wire(
            "8s", lambda octets: octets[::-1].hex("-").upper(), lambda text: bytes.fromhex(text.replace("-", ""))[::-1]
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PnpId(Measurement):
    """0x2A50: vendor and product as registered with `source`: 1 Bluetooth SIG, 2 USB."""

    FLAGS_OCTETS: ClassVar[int] = 0

    source: int = on_wire(U8)
    vendor: int = on_wire(U16)
    product: int = on_wire(U16)
    version: int = on_wire(U16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regulatory(Measurement):
    """0x2A2A: the IEEE 11073-20601 list of certifications, big-endian; kept as it is."""

    FLAGS_OCTETS: ClassVar[int] = 0

    octets: bytes

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> Self:  # noqa: ARG003 - never has one
        """Keep `value`."""
        return cls(octets=bytes(value))

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - never has one
        """The octets."""
        return self.octets

    def fields(self) -> Fields:
        """The octets in hexadecimal."""
        return {"octets": self.octets.hex()}


CHARACTERISTICS: Final[dict[int, type[Measurement]]] = {
    0x2A23: SystemId,
    0x2A24: Text,
    0x2A25: Text,
    0x2A26: Text,
    0x2A27: Text,
    0x2A28: Text,
    0x2A29: Text,
    0x2A2A: Regulatory,
    0x2A50: PnpId,
}
