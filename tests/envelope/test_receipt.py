from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Signer
from gateway.envelope.receipt import MAX_RANGES, decode_receipt, encode_receipt
from gateway.errors import ReceiptError
from gateway.model import Receipt, ReceiptRange, Refusal, StoreId
from tests.envelope.conftest import ED25519, OTHER, P256, verify_key

MAX = 2**53 - 1
NUMBERS = st.integers(0, MAX)
IDS = st.binary(min_size=16, max_size=16)
RANGES = st.builds(
    lambda chain, numbers, digest: ReceiptRange(chain, min(numbers), max(numbers), digest),
    IDS,
    st.tuples(NUMBERS, NUMBERS),
    st.binary(min_size=32, max_size=32),
)
RECEIPTS = st.builds(
    Receipt,
    gateway=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    store=st.builds(StoreId, IDS, NUMBERS),
    counter=NUMBERS,
    ranges=st.lists(RANGES, max_size=4).map(tuple),
    refused=st.lists(st.builds(Refusal, IDS, NUMBERS, st.just("malformed")), max_size=3).map(tuple),
    time_ms=NUMBERS,
)
RECEIVERS = {key.kid: key for key in map(verify_key, (ED25519, P256))}
CHAIN, STORE, HASH = b"c" * 16, b"s" * 16, b"h" * 32
RECEIPT = Receipt("gw-1", StoreId(STORE, 3), 9, (ReceiptRange(CHAIN, 0, 7, HASH),), (Refusal(CHAIN, 8, "fork"),), 1)
PAYLOAD = [1, "gw-1", [STORE, 3], 9, [[CHAIN, 0, 7, HASH]], [[CHAIN, 8, "fork"]], 1]


def signed(payload: Any, aad: bytes = layout.RECEIPT_AAD, signer: Signer = ED25519) -> bytes:
    return cose.sign1(signer, cbor.encode(payload), aad)


@pytest.mark.parametrize("signer", [ED25519, P256])
@given(RECEIPTS)
def test_a_receipt_comes_back_as_it_was(signer: Signer, receipt: Receipt) -> None:
    assert decode_receipt(encode_receipt(receipt, signer), RECEIVERS) == receipt


def test_its_payload_is_the_documented_one() -> None:
    assert encode_receipt(RECEIPT, ED25519) == signed(PAYLOAD)


def test_more_items_at_the_end_are_ignored() -> None:
    later = [*PAYLOAD[:4], [[CHAIN, 0, 7, HASH, "later"]], [[CHAIN, 8, "fork", 1]], 1, "later", {1: 2}]
    assert decode_receipt(signed(later), RECEIVERS) == RECEIPT


@pytest.mark.parametrize("signer", [ED25519, P256])
def test_a_change_of_any_byte_is_refused(signer: Signer) -> None:
    data = encode_receipt(RECEIPT, signer)
    for place in range(len(data)):
        for bit in (1, 0x20, 0x80):
            tampered = bytearray(data)
            tampered[place] ^= bit
            with pytest.raises(ReceiptError):
                decode_receipt(bytes(tampered), RECEIVERS)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ReceiptError):
        decode_receipt(data, RECEIVERS)


def test_a_signer_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(ReceiptError, match="pinned"):
        decode_receipt(encode_receipt(RECEIPT, OTHER), RECEIVERS)


@pytest.mark.parametrize("aad", [b"", layout.BUNDLE_AAD, layout.KEY_LIST_AAD])
def test_a_signature_for_another_use_is_refused(aad: bytes) -> None:
    with pytest.raises(ReceiptError):
        decode_receipt(signed(PAYLOAD, aad), RECEIVERS)


def test_it_has_at_most_256_ranges_on_both_sides() -> None:
    full = replace(RECEIPT, ranges=RECEIPT.ranges * MAX_RANGES)
    assert decode_receipt(encode_receipt(full, ED25519), RECEIVERS) == full
    with pytest.raises(ReceiptError):
        encode_receipt(replace(RECEIPT, ranges=RECEIPT.ranges * (MAX_RANGES + 1)), ED25519)
    with pytest.raises(ReceiptError):
        decode_receipt(signed([*PAYLOAD[:4], [[CHAIN, 0, 7, HASH]] * (MAX_RANGES + 1), *PAYLOAD[5:]]), RECEIVERS)


def test_one_that_is_too_long_is_not_read() -> None:
    with pytest.raises(ReceiptError, match="too long"):
        decode_receipt(signed([*PAYLOAD, bytes(65_536)]), RECEIVERS)


def test_a_range_of_one_bundle_is_a_range() -> None:
    assert decode_receipt(signed([*PAYLOAD[:4], [[CHAIN, 7, 7, HASH]], [], 1]), RECEIVERS).ranges[0].first == 7


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (0, None),
        (1, b"gw-1"),
        (2, STORE),
        (2, [STORE, -1]),
        (2, [STORE, MAX + 1]),
        (2, [STORE]),
        (2, [None, 1]),
        (3, -1),
        (3, MAX + 1),
        (4, None),
        (4, [[CHAIN, 8, 7, HASH]]),
        (4, [[CHAIN, -1, 7, HASH]]),
        (4, [[CHAIN, 0, MAX + 1, HASH]]),
        (4, [[CHAIN, 0, 7, b"short"]]),
        (4, [[b"short", 0, 7, HASH]]),
        (4, [[CHAIN, 0, 7]]),
        (4, [None]),
        (5, None),
        (5, [[CHAIN, 8]]),
        (5, [[CHAIN, -1, "fork"]]),
        (5, [[b"short", 8, "fork"]]),
        (5, [[CHAIN, 8, None]]),
        (6, -1),
        (6, None),
    ],
)
def test_a_payload_of_another_form_is_refused_though_it_is_signed(place: int, value: Any) -> None:
    with pytest.raises(ReceiptError):
        decode_receipt(signed([*PAYLOAD[:place], value, *PAYLOAD[place + 1 :]]), RECEIVERS)


@pytest.mark.parametrize("payload", [PAYLOAD[:6], [], None, {1: 1}])
def test_a_payload_that_is_none_is_refused(payload: Any) -> None:
    with pytest.raises(ReceiptError):
        decode_receipt(signed(payload), RECEIVERS)
