from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keylist import KeyList, decode_key_list, encode_key_list
from gateway.envelope.keys import Signer
from gateway.errors import ReceiptError
from tests.envelope.conftest import ED25519, OTHER, P256, X25519, XWING, verify_key

ROOT = verify_key(ED25519)
KEY_LIST = KeyList(7, 1000, 2000, (XWING.recipient,), (verify_key(OTHER), verify_key(P256)))
XWING_ITEM = [XWING.recipient.alg, XWING.kid, XWING.recipient.public]
OTHER_ITEM, P256_ITEM = ([signer.alg, signer.kid, signer.public] for signer in (OTHER, P256))
PAYLOAD = [1, 7, 1000, 2000, [XWING_ITEM], [OTHER_ITEM, P256_ITEM]]
LOW_ORDER = bytes(32)


def signed(payload: Any, aad: bytes = layout.KEY_LIST_AAD, signer: Signer = ED25519) -> bytes:
    return cose.sign1(signer, cbor.encode(payload), aad)


def read(data: bytes, *, allow_classical: bool = False) -> KeyList:
    return decode_key_list(data, ROOT, allow_classical=allow_classical)


def item(alg: int, public: bytes) -> list[Any]:
    return [alg, layout.sha256(public)[:16], public]


def test_a_key_list_comes_back_as_it_was() -> None:
    assert read(encode_key_list(KEY_LIST, ED25519)) == KEY_LIST


def test_its_payload_is_the_documented_one() -> None:
    assert encode_key_list(KEY_LIST, ED25519) == signed(PAYLOAD)


def test_a_root_may_be_a_p_256_key() -> None:
    data = encode_key_list(KEY_LIST, P256)
    assert decode_key_list(data, verify_key(P256), allow_classical=False) == KEY_LIST


def test_more_items_at_the_end_are_ignored() -> None:
    assert read(signed([*PAYLOAD[:4], [[*XWING_ITEM, "later"]], PAYLOAD[5], "later"])) == KEY_LIST


def test_a_classical_recipient_is_refused_unless_allowed() -> None:
    both = replace(KEY_LIST, recipients=(XWING.recipient, X25519.recipient))
    data = encode_key_list(both, ED25519)
    with pytest.raises(ReceiptError, match="allow_classical"):
        read(data)
    assert read(data, allow_classical=True) == both


def test_a_change_of_any_byte_is_refused() -> None:
    data = encode_key_list(replace(KEY_LIST, recipients=(X25519.recipient,)), ED25519)
    for place in range(len(data)):
        tampered = bytearray(data)
        tampered[place] ^= 1
        with pytest.raises(ReceiptError):
            read(bytes(tampered), allow_classical=True)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ReceiptError):
        read(data)


def test_only_the_root_is_believed() -> None:
    with pytest.raises(ReceiptError, match="pinned"):
        read(encode_key_list(KEY_LIST, OTHER))


@pytest.mark.parametrize("aad", [b"", layout.BUNDLE_AAD, layout.RECEIPT_AAD])
def test_a_signature_for_another_use_is_refused(aad: bytes) -> None:
    with pytest.raises(ReceiptError):
        read(signed(PAYLOAD, aad))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (1, -1),
        (1, 2**53),
        (2, -1),
        (3, None),
        (4, []),
        (4, None),
        (4, [XWING_ITEM] * 9),
        (4, [[XWING_ITEM[0], OTHER.kid, XWING_ITEM[2]]]),
        (4, [item(-70050, bytes(1215))]),
        (4, [item(-70050, b"\xff" * 1216)]),
        (4, [item(50, LOW_ORDER)]),
        (4, [item(99, bytes(32))]),
        (4, [OTHER_ITEM]),
        (4, [XWING_ITEM[:2]]),
        (4, [None]),
        (5, []),
        (5, None),
        (5, [item(-8, b"short")]),
        (5, [item(-7, bytes(64))]),
        (5, [item(99, bytes(32))]),
        (5, [XWING_ITEM]),
    ],
)
def test_a_payload_of_another_form_is_refused_though_it_is_signed(place: int, value: Any) -> None:
    with pytest.raises(ReceiptError):
        read(signed([*PAYLOAD[:place], value, *PAYLOAD[place + 1 :]]), allow_classical=True)


def test_validity_is_left_to_whoever_knows_the_time() -> None:
    assert read(encode_key_list(replace(KEY_LIST, not_before_ms=0, not_after_ms=0), ED25519)).not_after_ms == 0
