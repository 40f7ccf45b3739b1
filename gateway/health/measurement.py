"""How a characteristic's octets become a value: declared once per field, used to decode, to encode and to print.

Most health characteristics are a word of flags and then fields, some of which are there only if their flag is set. A
profile declares them in wire order:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Temperature(Measurement):
        temperature: Number = on_wire(FLOAT)
        timestamp: DateTime | None = on_wire(DATE_TIME, bit=1)
        unit: str = flag(0, values=("C", "F"))

From that the exact length for given flags follows. A value of any other length is refused, because an unknown field may
sit in its middle; reserved flags are kept in `rfu_flags` and otherwise ignored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from datetime import datetime
from struct import Struct
from typing import Any, ClassVar, Final, Self

from gateway.errors import DecodeError
from gateway.health.crc import split_crc, with_crc
from gateway.health.date_time import DateTime, decode_date_time, decode_dst, decode_time_zone, encode_date_time
from gateway.health.sfloat import Number, Special, decode_float, decode_sfloat, encode_float, encode_sfloat
from gateway.model import Reading

VALUE_MAX_OCTETS: Final = 512
"""No attribute is longer (Bluetooth Core, volume 3, part F, 3.2.9)."""

Fields = dict[str, Any]
"""A value for people and scripts: int, str, bool, None, `Number`, and lists and dicts of them."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A type on the wire: its `struct` code, and what turns that into a value and back (None: nothing)."""

    code: str
    decode: Callable[[Any], Any] | None = None
    encode: Callable[[Any], Any] | None = None


U8 = Wire("B")
S8 = Wire("b")
U16 = Wire("H")
S16 = Wire("h")
U24 = Wire("3s", lambda octets: int.from_bytes(octets, "little"), lambda value: value.to_bytes(3, "little"))
U32 = Wire("I")
SFLOAT = Wire("H", decode_sfloat, encode_sfloat)
FLOAT = Wire("I", decode_float, encode_float)
DATE_TIME = Wire("7s", decode_date_time, encode_date_time)
TIME_ZONE = Wire("b", decode_time_zone)
DST = Wire("B", decode_dst)
U16_UNSUCCESSFUL: Final = 0xFFFF


def scaled(exponent: int, *, step: int = 1, may_fail: bool = False) -> Wire:
    """A 16-bit count of `step * 10**exponent`; with `may_fail`, 0xFFFF says that the measurement was unsuccessful."""

    def decode(raw: int) -> Number:
        return Number(None, 0, Special.NAN) if may_fail and raw == U16_UNSUCCESSFUL else Number(raw * step, exponent)

    def encode(number: Number) -> int:
        if number.mantissa is None:
            return U16_UNSUCCESSFUL
        if number.exponent != exponent or number.mantissa % step:
            raise ValueError(f"{number} is not a count of {step}e{exponent}")
        return number.mantissa // step

    return Wire("H", decode, encode)


def or_special(code: str, specials: dict[int, Special]) -> Wire:
    """An integer of which some values say why there is none; those become that `Special`."""
    raw = {special: value for value, special in specials.items()}
    return Wire(code, lambda value: specials.get(value, value), lambda value: raw.get(value, value))


@dataclass(frozen=True, slots=True)
class _Spec:
    """How one attribute stands on the wire: as a field (`wire`), or as a flag that chooses one of two `values`."""

    name: str = ""
    called: str | None = None
    wire: Wire | None = None
    bit: int | None = None
    variant: tuple[int, Wire] | None = None
    nibbles: tuple[str, str] | None = None
    values: tuple[object, object] = (False, True)


def on_wire(
    wire: Wire,
    *,
    called: str | None = None,
    bit: int | None = None,
    variant: tuple[int, Wire] | None = None,
    nibbles: tuple[str, str] | None = None,
) -> Any:  # noqa: ANN401 - stands for a value of whatever type the field has
    """Declare a field; with `bit` it is there only if that flag is set, and else None.

    `called`: the name in `fields`, if not the attribute's. `variant`: (flag, another type on the wire if it is set).
    `nibbles`: names of the low and the high half of an octet.
    """
    metadata = {"spec": _Spec(called=called, wire=wire, bit=bit, variant=variant, nibbles=nibbles)}
    return field(metadata=metadata) if bit is None else field(default=None, metadata=metadata)


def flag(bit: int, *, values: tuple[object, object] = (False, True)) -> Any:  # noqa: ANN401 - see `on_wire`
    """Declare what a flag says by itself: the first of `values` if it is clear, the second if it is set."""
    return field(default=values[0], metadata={"spec": _Spec(bit=bit, values=values)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one characteristic said. The base of all: what has no field says nothing."""

    FLAGS_OCTETS: ClassVar[int] = 1
    """Width of the flags at the start; 0 for none."""

    rfu_flags: int = 0
    """Flags that were set and are reserved for future use."""

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> Self:  # noqa: ARG003 - most have no CRC
        """Read `value`. Raises `DecodeError`."""
        return cls.parse(value)

    @classmethod
    def parse(cls, octets: bytes, **more: object) -> Self:
        """Read the declared fields, and nothing else, from `octets`; `more` are attributes known otherwise.

        Raises `DecodeError`.
        """
        width = cls.FLAGS_OCTETS
        plan = layout(cls, int.from_bytes(octets[:width], "little"))
        if len(octets) != plan.size:
            raise DecodeError(f"{len(octets)} octets where {plan.size} are due")
        values = plan.constants | more
        for (name, convert), raw in zip(plan.decoders, plan.struct.unpack_from(octets, width), strict=True):
            values[name] = raw if convert is None else convert(raw)
        return cls(**values)

    @property
    def flags(self) -> int:
        """The flags as they stand on the wire."""
        flags = self.rfu_flags
        for spec in specs(type(self)):
            if spec.bit is not None:
                value = getattr(self, spec.name)
                flags |= (value == spec.values[1] if spec.wire is None else value is not None) << spec.bit
        return flags

    def encode(self, *, e2e_crc: bool = False) -> bytes:  # noqa: ARG002 - most have no CRC
        """The octets of this value. Raises `ValueError` or `struct.error` if something does not fit its field."""
        plan = layout(type(self), self.flags)
        values = [getattr(self, name) for name, _ in plan.encoders]
        raw = [value if convert is None else convert(value) for (_, convert), value in zip(plan.encoders, values)]  # noqa: B905 - made of it
        return self.flags.to_bytes(self.FLAGS_OCTETS, "little") + plan.struct.pack(*raw)

    def fields(self) -> Fields:
        """Everything that was said, by the names of `iomt-gateway decode`; what was not sent is absent."""
        out: Fields = {}
        for spec in specs(type(self)):
            value = getattr(self, spec.name)
            if spec.nibbles and value is not None:
                out |= {spec.nibbles[0]: value & 0x0F, spec.nibbles[1]: value >> 4}
            else:
                put(out, spec.called or spec.name, value)
        if self.rfu_flags:
            out["rfu_flags"] = self.rfu_flags
        return out

    @property
    def moment(self) -> datetime | None:
        """The time that it tells, by the device's clock; None if there is none or it is not known."""
        return None

    @property
    def stored(self) -> bool | None:
        """Whether the device has kept it for a while and sends it now; None if it does not say."""
        return None

    def readings(self, *, device: str, time_ms: int) -> tuple[Reading, ...]:  # noqa: ARG002 - for those that measure
        """The values of metrics in this, all taken at `time_ms`; none by default."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksummedMeasurement(Measurement):
    """A value without flags that may end with an E2E-CRC."""

    FLAGS_OCTETS: ClassVar[int] = 0

    crc: int | None = field(default=None, compare=False)
    """The CRC as it was received; on sending it is computed."""

    @classmethod
    def decode(cls, value: bytes, *, e2e_crc: bool | None = None) -> Self:
        """Read `value`; `e2e_crc` is what 0x2AA8 promises, None infers it from the length. Raises `DecodeError`."""
        octets, crc = split_crc(value, layout(cls, 0).size, present=e2e_crc)
        return cls.parse(octets, crc=crc)

    def encode(self, *, e2e_crc: bool = False) -> bytes:
        """The octets of this value, with a CRC if asked for."""
        octets = Measurement.encode(self)
        return with_crc(octets) if e2e_crc else octets

    def fields(self) -> Fields:
        """As declared, and the CRC."""
        out = Measurement.fields(self)
        put(out, "crc", self.crc)
        return out


def put(out: Fields, name: str, value: object) -> None:
    """Add `value` to `out`: nothing for None, null and `NAME_special` for a special value."""
    special = value.special if isinstance(value, Number) else value if isinstance(value, Special) else None
    if special is not None:
        out |= {name: None, f"{name}_special": str(special)}
    elif isinstance(value, DateTime):
        out[name] = value.isoformat()
    elif value is not None:
        out[name] = value


_Converters = Sequence[tuple[str, Callable[[Any], Any] | None]]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything stands for one value of the flags."""

    struct: Struct
    size: int
    decoders: _Converters
    encoders: _Converters
    constants: dict[str, Any]


_MOST_LAYOUTS: Final = 1024
_LAYOUTS: Final[dict[tuple[type, int], _Layout]] = {}
_SPECS: Final[dict[type, tuple[_Spec, ...]]] = {}


def specs(kind: type[Measurement]) -> tuple[_Spec, ...]:
    """What `kind` declares, in wire order."""
    known = _SPECS.get(kind)
    if known is None:
        declared = [each for each in dataclass_fields(kind) if "spec" in each.metadata]
        known = _SPECS[kind] = tuple(replace(each.metadata["spec"], name=each.name) for each in declared)
    return known


def layout(kind: type[Measurement], flags: int) -> _Layout:
    """Where everything stands in a `kind` with `flags`; remembered, within bounds, as devices choose the flags."""
    known = _LAYOUTS.get((kind, flags))
    if known is None:
        if len(_LAYOUTS) >= _MOST_LAYOUTS:
            _LAYOUTS.clear()
        known = _LAYOUTS[kind, flags] = _lay_out(kind, flags)
    return known


def _lay_out(kind: type[Measurement], flags: int) -> _Layout:
    constants: dict[str, Any] = {}
    known = 0
    wires: list[tuple[str, Wire]] = []
    for spec in specs(kind):
        present = spec.bit is None or bool(flags >> spec.bit & 1)
        known |= 0 if spec.bit is None else 1 << spec.bit
        if spec.wire is None:
            constants[spec.name] = spec.values[present]
        elif present:
            chosen = spec.variant[1] if spec.variant and flags >> spec.variant[0] & 1 else spec.wire
            wires.append((spec.name, chosen))
    struct = Struct("<" + "".join(wire.code for _, wire in wires))
    return _Layout(
        struct=struct,
        size=kind.FLAGS_OCTETS + struct.size,
        decoders=tuple((name, wire.decode) for name, wire in wires),
        encoders=tuple((name, wire.encode) for name, wire in wires),
        constants=constants | {"rfu_flags": flags & ~known},
    )
