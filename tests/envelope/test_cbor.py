import time
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import cbor
from gateway.errors import MalformedError

SCALARS = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(st.characters(codec="utf-8")) | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.integers(0, 23), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.sampled_from((16, 18, 96)), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_encoded_is_decoded(value: object) -> None:
    encoded = cbor.encode(value)
    assert cbor.encode(cbor.decode(encoded)) == encoded
    if isinstance(value, int | bytes | str | None):
        assert cbor.decode(encoded) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_in_its_one_encoding_or_refused(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except MalformedError:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        "1800",  # 0 in two bytes
        "190001",  # 1 in three
        "1a00000001",
        "1b0000000000000001",
        "3800",  # -1 in two
        "5801aa",  # a byte string with a long head
        "7801" + "61",
        "980101",  # an array with a long head
        "b801" + "0101",
        "5f41aaff",  # indefinite bytes
        "7f6161ff",
        "9f01ff",
        "bf0101ff",
        "a2040101" + "02",  # keys out of order
        "a201010102",  # a key twice
        "a220011818" + "01",  # length-first order, not bytewise
        "a1" + "6161" + "01",  # a key that is no integer
        "0000",  # two values
        "8101" + "00",
        "f93c00",  # floats
        "fa3f800000",
        "fb3ff0000000000000",
        "f97e00",
        "f4",  # false
        "f5",
        "f7",  # undefined
        "e0",  # other simple values
        "f8ff",
        "81f5",
        "a101f5",
        "d8" + "60" + "f5",
        "61ff",  # not UTF-8
        "",
        "81",
        "ff",
        "1c",
    ],
)
def test_other_forms_of_a_value_are_refused(data: str) -> None:
    with pytest.raises(MalformedError):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize("tag", [0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004])
@pytest.mark.parametrize("inner", [1, "2026-01-01T00:00:00Z", b"\x01", (1, 2), "(a+)+$"])
def test_tags_that_a_decoder_would_act_on_are_refused(tag: int, inner: object) -> None:
    with pytest.raises(MalformedError):
        cbor.decode(cbor2.dumps([cbor2.CBORTag(tag, inner)]))


@pytest.mark.parametrize("tag", [16, 18, 96])
def test_the_tags_of_cose_are_plain_values(tag: int) -> None:
    assert cbor.decode(cbor2.dumps(cbor2.CBORTag(tag, 1))) == cbor2.CBORTag(tag, 1)


@given(st.integers(0, 2**32).filter(lambda tag: tag not in {16, 18, 96}))
def test_no_other_tag_has_a_place(tag: int) -> None:
    with pytest.raises(MalformedError):
        cbor.decode(cbor2.dumps(cbor2.CBORTag(tag, 1)))


def test_integers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(MalformedError):
        cbor.decode(cbor.encode(2**64))


def test_a_lone_surrogate_is_not_encoded() -> None:
    with pytest.raises(MalformedError):
        cbor.encode("\ud800")


@pytest.mark.parametrize(
    "data",
    [
        b"\x81" * 65_536,
        b"\xd8\x60" * 32_768,
        b"\xa1\x01" * 32_768,
        b"\x9b" + b"\xff" * 8,
        b"\x5b" + b"\x7f" * 8,
        b"\x9a\x00\xff\xff\xff" + b"\x00" * 65_531,
        b"\x99\xff\x00" + b"\x80" * 65_280,
        b"\x39\xff\xff" * 20_000,
    ],
    ids=["deep", "deep-tags", "deep-maps", "array-2^64", "bytes-2^63", "short-array", "many-arrays", "trailing"],
)
def test_hostile_bytes_are_answered_quickly(data: bytes) -> None:
    started_s = time.process_time()
    with suppress(MalformedError):
        cbor.decode(data)
    assert time.process_time() - started_s < 1


@pytest.mark.parametrize("wrapper", [b"\x81", b"\xa1\x01", b"\xd8\x60"], ids=["array", "map", "tag"])
def test_containers_and_tags_nest_at_most_12_deep(wrapper: bytes) -> None:
    cbor.decode(wrapper * 12 + b"\x00")
    cbor.decode(wrapper * 11 + b"\x80")
    for deeper in (wrapper * 13 + b"\x00", wrapper * 12 + b"\x80", wrapper * 12 + b"\xa0"):
        with pytest.raises(MalformedError):
            cbor.decode(deeper)
