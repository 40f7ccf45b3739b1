import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope.keys import (
    EDDSA,
    ES256,
    HPKE_X25519,
    HPKE_XWING,
    Recipient,
    RecipientKey,
    Signer,
    VerifyKey,
    kid,
    signer_for,
)
from gateway.errors import DecryptError, SealError, SignatureError
from tests.envelope.conftest import ED25519, OTHER, P256, X25519, XWING, verify_key

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
LOW_ORDER_POINTS = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("signer", [ED25519, P256])
@given(st.binary(max_size=100))
def test_what_a_signer_signs_its_key_verifies_and_no_other(signer: Signer, message: bytes) -> None:
    signature = signer.sign(message)
    verify_key(signer).verify(signature, message)
    for key, text in ((verify_key(OTHER), message), (verify_key(signer), message + b"!")):
        with pytest.raises(SignatureError):
            key.verify(signature, text)


@pytest.mark.parametrize("signer", [ED25519, P256])
def test_a_kid_is_the_hash_of_the_raw_public_key(signer: Signer) -> None:
    assert signer.kid == verify_key(signer).kid == kid(signer.public)
    assert len(signer.kid) == 16


@pytest.mark.parametrize("number", range(20))
def test_es256_signatures_have_low_s_and_their_twins_are_refused(number: int) -> None:
    message = bytes([number])
    signature = P256.sign(message)
    s = int.from_bytes(signature[32:], "big")
    assert s <= ORDER // 2
    with pytest.raises(SignatureError, match="upper half"):
        verify_key(P256).verify(signature[:32] + (ORDER - s).to_bytes(32, "big"), message)


def test_an_ed25519_signature_whose_s_is_not_reduced_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = ED25519.sign(b"message")
    verify_key(ED25519).verify(signature, b"message")
    twin = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(SignatureError):
        verify_key(ED25519).verify(signature[:32] + twin.to_bytes(32, "little"), b"message")


@pytest.mark.parametrize("signer", [ED25519, P256])
@given(st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_any_bytes_for_a_signature_are_refused(signer: Signer, signature: bytes) -> None:
    with pytest.raises(SignatureError):
        verify_key(signer).verify(signature, b"message")


@pytest.mark.parametrize("r", [0, ORDER, 2**256 - 1])
def test_es256_numbers_outside_the_group_are_refused(r: int) -> None:
    for s in (0, 1):
        with pytest.raises(SignatureError):
            verify_key(P256).verify(r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"message")


@pytest.mark.parametrize(
    ("alg", "public"),
    [
        (EDDSA, b""),
        (EDDSA, ED25519.public + b"\0"),
        (EDDSA, P256.public),
        (ES256, bytes(64)),
        (ES256, b"\xff" * 64),
        (ES256, P256.public[:63]),
        (ES256, P256.public[:32] + P256.public[:32]),
        (-35, ED25519.public),
        (HPKE_X25519, ED25519.public),
    ],
)
def test_a_verifying_key_refuses_junk(alg: int, public: bytes) -> None:
    with pytest.raises(SignatureError):
        VerifyKey(alg, public)


@pytest.mark.parametrize(
    ("alg", "public"),
    [
        *((HPKE_X25519, point) for point in LOW_ORDER_POINTS),
        *((HPKE_XWING, XWING.recipient.public[:-32] + point) for point in LOW_ORDER_POINTS),
        (HPKE_XWING, b"\xff" * 1216),
        (HPKE_XWING, XWING.recipient.public[:-1]),
        (HPKE_X25519, b""),
        (HPKE_X25519, XWING.recipient.public),
        (EDDSA, ED25519.public),
        (0, X25519.recipient.public),
    ],
)
def test_a_recipient_refuses_junk(alg: int, public: bytes) -> None:
    with pytest.raises(SealError):
        Recipient(alg, public)


@pytest.mark.parametrize(("alg", "private"), [(HPKE_X25519, b"short"), (HPKE_XWING, bytes(64)), (EDDSA, bytes(32))])
def test_a_private_recipient_key_refuses_junk(alg: int, private: bytes) -> None:
    with pytest.raises(SealError):
        RecipientKey(alg, private)


@pytest.mark.parametrize("key", [X25519, XWING])
def test_what_is_wrapped_is_unwrapped_by_its_recipient_under_its_info_only(key: RecipientKey) -> None:
    enc, sealed = key.recipient.wrap(b"k" * 32, b"info")
    assert len(enc) + len(sealed) == key.recipient.wrapped_bytes
    assert key.unwrap(enc, sealed, b"info") == b"k" * 32
    stranger = RecipientKey(key.alg, b"\x05" * 32)
    for opener, one, other, info in (
        (stranger, enc, sealed, b"info"),
        (key, enc, sealed, b"other"),
        (key, enc[:-1] + bytes([enc[-1] ^ 1]), sealed, b"info"),
        (key, enc[:-1], enc[-1:] + sealed, b"info"),
        (key, enc, sealed[:-1], b"info"),
        (key, enc, b"", b"info"),
        (key, bytes(len(enc)), sealed, b"info"),
    ):
        with pytest.raises(DecryptError):
            opener.unwrap(one, other, info)


def test_the_x_wing_key_of_the_drafts_first_test_vector() -> None:
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    public = RecipientKey(HPKE_XWING, seed).recipient.public
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5b19cfc3da5fa1a92")


def test_a_signer_is_chosen_by_the_kind_of_its_key() -> None:
    assert signer_for(ed25519.Ed25519PrivateKey.generate()).alg == EDDSA
    assert signer_for(ec.generate_private_key(ec.SECP256R1())).alg == ES256


@pytest.mark.parametrize("holder", [ED25519, P256, X25519, XWING])
def test_private_keys_are_not_shown(holder: object) -> None:
    assert "private" not in repr(holder)
