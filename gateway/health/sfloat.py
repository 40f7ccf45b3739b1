"""Decimal numbers as health devices send them: SFLOAT (16 bit) and FLOAT (32 bit), IEEE 11073-20601 annex F.8.

A number is `mantissa * 10**exponent`; the pair is kept, because the exponent carries the device's precision: 36.60 is
not 36.6. Both exponents are two's complement. Five mantissas are special at any exponent; with one other than 0 they
break the specification, which `Number.anomalous` tells.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Special(StrEnum):
    """Why a number has no value."""

    NAN = "NaN"
    """Invalid, or no reading."""
    NRES = "NRes"
    """Not at this resolution."""
    ABOVE = "+INF"
    """Above the device's range."""
    BELOW = "-INF"
    """Below the device's range."""
    RESERVED = "RFU"
    """Reserved for future use."""


@dataclass(frozen=True, slots=True)
class Number:
    """`mantissa * 10**exponent`, or the reason why there is no value; exactly one of `mantissa`, `special` is None."""

    mantissa: int | None
    exponent: int = 0
    special: Special | None = None

    @property
    def anomalous(self) -> bool:
        """A special value with an exponent, which no specification defines."""
        return self.special is not None and self.exponent != 0

    def shifted(self, places: int) -> "Number":
        """The same digits, worth `10**places` times as much; a special value stays what it is."""
        return self if self.mantissa is None else Number(self.mantissa, self.exponent + places)

    def __str__(self) -> str:
        """All digits and never an exponent; a special value's name."""
        if self.mantissa is None:
            return str(self.special)
        if self.exponent >= 0:
            return str(self.mantissa * 10**self.exponent)
        digits = f"{abs(self.mantissa):0{1 - self.exponent}d}"
        sign = "-" if self.mantissa < 0 else ""
        return f"{sign}{digits[: self.exponent]}.{digits[self.exponent :]}"


@dataclass(frozen=True, slots=True)
class _Format:
    """A mantissa of `bits` below an exponent of `exponent_bits`."""

    bits: int
    exponent_bits: int

    @property
    def specials(self) -> dict[int, Special]:
        top = 1 << (self.bits - 1)
        return {
            top - 1: Special.NAN,
            -top: Special.NRES,
            top - 2: Special.ABOVE,
            -top + 2: Special.BELOW,
            -top + 1: Special.RESERVED,
        }

    def decode(self, raw: int) -> Number:
        mantissa = _signed(raw, self.bits)
        exponent = _signed(raw >> self.bits, self.exponent_bits)
        special = self.specials.get(mantissa)
        return Number(mantissa, exponent) if special is None else Number(None, exponent, special)

    def encode(self, number: Number) -> int:
        specials = self.specials
        mantissa = number.mantissa
        if mantissa is None:
            mantissa = next(pattern for pattern, special in specials.items() if special is number.special)
        elif abs(mantissa) > (1 << (self.bits - 1)) - 3:
            raise ValueError(f"mantissa {mantissa} does not fit into {self.bits} bits")
        limit = 1 << (self.exponent_bits - 1)
        if not -limit <= number.exponent < limit:
            raise ValueError(f"exponent {number.exponent} does not fit into {self.exponent_bits} bits")
        exponent = number.exponent & (2 * limit - 1)
        return exponent << self.bits | mantissa & ((1 << self.bits) - 1)


def _signed(raw: int, bits: int) -> int:
    """The low `bits` of `raw` as two's complement."""
    sign = 1 << (bits - 1)
    return (raw & (2 * sign - 1) ^ sign) - sign


_SFLOAT = _Format(bits=12, exponent_bits=4)
_FLOAT = _Format(bits=24, exponent_bits=8)


@lru_cache(4096)
def decode_sfloat(raw: int) -> Number:
    """The number that the 16 bits `raw` stand for; every pattern stands for one."""
    return _SFLOAT.decode(raw)


def encode_sfloat(number: Number) -> int:
    """The 16 bits of `number`. Raises `ValueError` if mantissa (±2045) or exponent (-8..7) do not fit."""
    return _SFLOAT.encode(number)


@lru_cache(1024)
def decode_float(raw: int) -> Number:
    """The number that the 32 bits `raw` stand for; every pattern stands for one."""
    return _FLOAT.decode(raw)


def encode_float(number: Number) -> int:
    """The 32 bits of `number`. Raises `ValueError` if mantissa (±8388605) or exponent (-128..127) do not fit."""
    return _FLOAT.encode(number)
