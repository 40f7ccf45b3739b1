"""What holds for every characteristic: any octets are a value or a declared error, and so on."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import health
from gateway.errors import DecodeError
from gateway.health import cgm, cgm_control, dis, hrs, racp
from gateway.health.date_time import DateTime
from gateway.health.measurement import DATE_TIME, VALUE_MAX_OCTETS, Measurement, Wire, specs
from gateway.health.metrics import METRICS

FIRST_YEAR = 1582
DATE_TIMES = st.one_of(
    st.datetimes().filter(lambda moment: moment.year >= FIRST_YEAR).map(DateTime.of),
    st.builds(DateTime, st.sampled_from([0, 2026]), st.integers(0, 12), st.integers(0, 28), st.integers(0, 23)),
)
OCTET = {"B": range(256), "b": range(-128, 128)}
RAW = {
    "B": st.integers(0, 0xFF),
    "b": st.integers(-0x80, 0x7F),
    "H": st.integers(0, 0xFFFF),
    "h": st.integers(-0x8000, 0x7FFF),
    "I": st.integers(0, 0xFFFFFFFF),
    "3s": st.binary(min_size=3, max_size=3),
    "8s": st.binary(min_size=8, max_size=8),
}


@st.composite
def values_of(draw: st.DrawFn, wire: Wire) -> Any:
    if wire == DATE_TIME:
        return draw(DATE_TIMES)
    read = wire.decode
    if read is None:
        return draw(RAW[wire.code])
    if wire.code in OCTET:
        return draw(st.sampled_from([raw for raw in OCTET[wire.code] if accepted(read, raw)]))
    return read(draw(RAW[wire.code]))


def accepted(read: Callable[[int], Any], raw: int) -> bool:
    try:
        read(raw)
    except DecodeError:
        return False
    return True


@st.composite
def declared(draw: st.DrawFn, kind: type[Measurement], **more: Any) -> Measurement:
    """Any value of a kind that is declared field by field."""
    flags = draw(st.integers(0, (1 << 8 * kind.FLAGS_OCTETS) - 1))
    values: dict[str, Any] = dict(more)
    known = 0
    for spec in specs(kind):
        present = spec.bit is None or bool(flags >> spec.bit & 1)
        known |= 0 if spec.bit is None else 1 << spec.bit
        if spec.wire is None:
            values[spec.name] = spec.values[present]
        elif present:
            variant = spec.variant and flags >> spec.variant[0] & 1
            values[spec.name] = draw(values_of(spec.variant[1] if variant else spec.wire))
    return kind(rfu_flags=flags & ~known, **values)


@st.composite
def heart_rates(draw: st.DrawFn) -> Measurement:
    intervals = draw(st.lists(RAW["H"], max_size=9))
    wide = draw(st.booleans())
    return hrs.HeartRate(
        hr_bpm=draw(RAW["H" if wide else "B"]),
        wide=wide,
        energy_kj=draw(st.none() | RAW["H"]),
        rr_raw=tuple(intervals),
        has_rr=bool(intervals),
        contact_detected=draw(st.booleans()),
        contact_supported=draw(st.booleans()),
        rfu_flags=draw(st.sampled_from([0, 0x20, 0xE0])),
    )


@st.composite
def procedures(draw: st.DrawFn) -> Measurement:
    op = racp.Opcode(draw(st.sampled_from([1, 2, 4, 7])))
    operator = racp.Operator(draw(st.integers(1, 6)))
    count = {2: 1, 3: 1, 4: 2}.get(operator, 0)
    kind = draw(st.sampled_from([1, 2, 9]))
    operand = {1: RAW["H"], 2: DATE_TIMES, 9: RAW["B"]}[kind]
    operands = tuple(draw(operand) for _ in range(count))
    request = racp.Request(op, operator, kind if count else None, operands)
    others = st.one_of(
        st.just(racp.Abort()),
        st.builds(racp.NumberOfRecords, RAW["I"], st.sampled_from([racp.Opcode(5), racp.Opcode(8)])),
        st.builds(racp.Response, RAW["B"], RAW["B"]),
    )
    return draw(st.just(request) | others)


def measurements(characteristic: int) -> st.SearchStrategy[Measurement]:
    kind = health.CHARACTERISTICS[characteristic]
    by_hand: dict[type[Measurement], st.SearchStrategy[Measurement]] = {
        hrs.HeartRate: heart_rates(),
        racp.Procedure: procedures(),
        cgm.Records: st.lists(declared(cgm.Record), min_size=1, max_size=4).map(
            lambda r: cgm.Records(records=tuple(r))
        ),
        cgm_control.Operation: st.sampled_from(sorted(cgm_control._KINDS.items())).flatmap(
            lambda item: declared(item[1], op=item[0])
        ),
        dis.Text: st.text().map(lambda text: dis.Text(text=text.rstrip("\0"))),
        dis.Regulatory: st.binary().map(lambda octets: dis.Regulatory(octets=octets)),
    }
    return by_hand[kind] if kind in by_hand else declared(kind)


ALL = pytest.mark.parametrize("characteristic", sorted(health.CHARACTERISTICS), ids=lambda uuid: f"{uuid:04X}")
CRC = st.sampled_from([True, False])


def test_the_characteristics_of_all_profiles_are_found() -> None:
    wanted = """2A18 2A34 2A51 2AA7 2AA8 2AA9 2AAA 2AAB 2AAC 2A5E 2A5F 2A60 2A52 2A37 2A38 2A1C 2A1D 2A1E 2A35 2A36 2A49
    2A9D 2A9E 2A9B 2A9C 2A19 2A23 2A24 2A25 2A26 2A27 2A28 2A29 2A2A 2A50 2A2B 2A0F 2A14 2A08"""
    assert set(health.CHARACTERISTICS) == {int(uuid, 16) for uuid in wanted.split()}


@ALL
@settings(max_examples=40, deadline=None)
@given(value=st.binary(max_size=24), e2e_crc=st.none() | CRC)
def test_any_octets_are_a_value_or_a_declared_error(characteristic: int, value: bytes, *, e2e_crc: bool | None) -> None:
    try:
        measurement = health.decode(characteristic, value, e2e_crc=e2e_crc)
    except DecodeError:
        return
    assert health.fields(measurement)
    assert all(reading.metric in METRICS for reading in health.readings(measurement, device="d", time_ms=0))


@ALL
@settings(max_examples=25, deadline=None)
@given(data=st.data(), e2e_crc=CRC)
def test_what_is_encoded_decodes_to_itself(characteristic: int, data: st.DataObject, *, e2e_crc: bool) -> None:
    measurement = data.draw(measurements(characteristic))
    octets = health.encode(measurement, e2e_crc=e2e_crc)
    if len(octets) <= VALUE_MAX_OCTETS:
        assert health.decode(characteristic, octets, e2e_crc=e2e_crc) == measurement
        assert health.decode(characteristic, octets) == measurement


@ALL
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_value_of_every_kind_can_be_told_and_read(characteristic: int, data: st.DataObject) -> None:
    measurement = data.draw(measurements(characteristic))
    told = health.fields(measurement)
    for name, value in told.items():
        if name.endswith("_special"):
            assert told[name.removesuffix("_special")] is None
            assert value in {"NaN", "NRes", "+INF", "-INF", "RFU"}
    for reading in health.readings(measurement, device="d", time_ms=7):
        assert reading.device == "d"
        assert list(reading.extras) == sorted(reading.extras)


@ALL
@settings(max_examples=15, deadline=None)
@given(data=st.data(), more=st.binary(min_size=1, max_size=1))
def test_one_octet_less_or_more_is_refused_or_is_something_else(
    characteristic: int, data: st.DataObject, more: bytes
) -> None:
    measurement = data.draw(measurements(characteristic))
    octets = health.encode(measurement)
    for other in (octets[:-1], octets + more):
        try:
            decoded = health.decode(characteristic, other, e2e_crc=False)
        except DecodeError:
            continue
        variable = (dis.Text, dis.Regulatory, racp.Request)
        assert isinstance(decoded, variable) or decoded != measurement


@pytest.mark.parametrize("characteristic", [0x2A00, 0x0000, 0xFFFF])
def test_an_unknown_characteristic_is_named(characteristic: int) -> None:
    with pytest.raises(DecodeError, match=f"{characteristic:04X}"):
        health.decode(characteristic, b"\x00")


@ALL
def test_nothing_longer_than_an_attribute_is_read(characteristic: int) -> None:
    with pytest.raises(DecodeError, match="more than any attribute has"):
        health.decode(characteristic, b"A" * (VALUE_MAX_OCTETS + 1))
