"""The COSE structures (RFC 9052) of this format, each in its one allowed shape.

Content encryption is ChaCha20/Poly1305 with an implicit nonce of twelve zero bytes: every content key seals once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cbor2 import CBORTag
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gateway.envelope import cbor
from gateway.envelope.keys import Recipient, RecipientKey, Signer, VerifyKey
from gateway.errors import DecryptError, MalformedError, SignatureError

SIGN1, ENCRYPT, ENCRYPT0 = 18, 96, 16
ALG, KID, ENC, PART = 1, 4, -4, -70001
CHACHA20_POLY1305 = 24
MAX_RECIPIENTS = 8

_CONTEXTS = {ENCRYPT: "Encrypt", ENCRYPT0: "Encrypt0"}
_NONCE = bytes(12)
_KID_BYTES = 16
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed COSE_Sign1, not verified yet."""

    alg: int
    kid: bytes
    payload: bytes
    _protected: bytes
    _signature: bytes

    def verify(self, key: VerifyKey, external_aad: bytes) -> None:
        """Raise `SignatureError` unless `key` is the one that it names, and signed it."""
        if (key.alg, key.kid) != (self.alg, self.kid):
            raise SignatureError("signed by another key than this")
        key.verify(self._signature, _to_be_signed(self._protected, external_aad, self.payload))


def _to_be_signed(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, external_aad, payload])


def sign1(signer: Signer, payload: bytes, external_aad: bytes) -> bytes:
    """COSE_Sign1 with protected {1: alg, 4: kid}, tagged."""
    protected = cbor.encode({ALG: signer.alg, KID: signer.kid})
    signature = signer.sign(_to_be_signed(protected, external_aad, payload))
    return cbor.encode(CBORTag(SIGN1, [protected, {}, payload, signature]))


def read_sign1(item: Any) -> Sign1:  # noqa: ANN401 - any CBOR value
    """The COSE_Sign1 in a decoded item. Raises `MalformedError`."""
    match item:
        case CBORTag(tag=18, value=[bytes(protected), {**rest}, bytes(payload), bytes(signature)]) if not rest:
            pass
        case _:
            raise MalformedError("not a COSE_Sign1")
    if len(signature) != _SIGNATURE_BYTES:
        raise MalformedError("a signature has 64 bytes")
    return Sign1(*_read_key(protected), payload, protected, signature)


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A parsed COSE_Encrypt0 or COSE_Encrypt, not opened yet."""

    tag: int
    header: tuple[Any, ...]
    """The value of label -70001."""
    content: bytes
    """The content of the protected bstr."""
    _ciphertext: bytes
    _recipients: tuple[Any, ...] = ()

    def open(self, key: bytes, external_aad: bytes) -> bytes:
        """The plaintext. Raises `DecryptError`."""
        aad = cbor.encode([_CONTEXTS[self.tag], self.content, external_aad])
        try:
            return ChaCha20Poly1305(key).decrypt(_NONCE, self._ciphertext, aad)
        except (InvalidTag, ValueError) as error:
            raise DecryptError("a part does not open") from error

    def unwrap(self, keys: Mapping[bytes, RecipientKey]) -> bytes:
        """The content key, by whichever of `keys` it was sealed to. Raises `DecryptError`."""
        for protected, enc, wrapped in self._recipients:
            alg, kid = _read_key(protected)
            key = keys.get(kid)
            if key is not None and key.alg == alg:
                return key.unwrap(enc, wrapped, _hpke_info(protected))
        raise DecryptError("not sealed to any key here")


def _protected(header: Sequence[Any]) -> bytes:
    return cbor.encode({ALG: CHACHA20_POLY1305, PART: header})


def _seal(tag: int, protected: bytes, key: bytes, plaintext: bytes, external_aad: bytes) -> bytes:
    aad = cbor.encode([_CONTEXTS[tag], protected, external_aad])
    return ChaCha20Poly1305(key).encrypt(_NONCE, plaintext, aad)


def encrypt0(header: Sequence[Any], key: bytes, plaintext: bytes, external_aad: bytes) -> CBORTag:
    """COSE_Encrypt0 with `header` at label -70001; `key` must never seal anything else."""
    protected = _protected(header)
    return CBORTag(ENCRYPT0, [protected, {}, _seal(ENCRYPT0, protected, key, plaintext, external_aad)])


def encrypt(
    header: Sequence[Any],
    recipients: Sequence[Recipient],
    plaintext: bytes,
    external_aad: bytes,
    random: Callable[[int], bytes],
) -> tuple[CBORTag, bytes]:
    """COSE_Encrypt to every recipient under a fresh content key; and the content of its protected bstr."""
    protected = _protected(header)
    key = random(32)
    ciphertext = _seal(ENCRYPT, protected, key, plaintext, external_aad)
    wrapped = []
    for recipient in recipients:
        own = cbor.encode({ALG: recipient.alg, KID: recipient.kid})
        enc, sealed = recipient.wrap(key, _hpke_info(own))
        wrapped.append([own, {ENC: enc}, sealed])
    return CBORTag(ENCRYPT, [protected, {}, ciphertext, wrapped]), protected


def _hpke_info(recipient_protected: bytes) -> bytes:
    """Recipient_structure of draft-ietf-cose-hpke."""
    return cbor.encode(["HPKE Recipient", CHACHA20_POLY1305, recipient_protected, b""])


@lru_cache(maxsize=1024)  # the same for all that a key signs, or that is sealed to it
def _read_key(protected: bytes) -> tuple[int, bytes]:
    """Algorithm and kid. Raises `MalformedError`."""
    match cbor.decode(protected):
        case {1: int(alg), 4: bytes(kid), **rest} if not rest and len(kid) == _KID_BYTES:
            return alg, kid
    raise MalformedError("the protected header of a signature or recipient is {1: alg, 4: kid}")


def read_encrypted(item: Any) -> Encrypted:  # noqa: ANN401 - any CBOR value
    """The COSE_Encrypt0 or COSE_Encrypt in a decoded item. Raises `MalformedError`."""
    recipients: tuple[Any, ...] = ()
    match item:
        case CBORTag(tag=16, value=[bytes(protected), {**rest}, bytes(ciphertext)]) if not rest:
            tag = ENCRYPT0
        case CBORTag(tag=96, value=[bytes(protected), {**rest}, bytes(ciphertext), list(listed)]) if not rest:
            tag = ENCRYPT
            recipients = tuple(_recipient(each) for each in listed)
            if not 1 <= len(recipients) <= MAX_RECIPIENTS:
                raise MalformedError("an epoch has 1 to 8 recipients")
        case _:
            raise MalformedError("not a part")
    match cbor.decode(protected):
        case {1: 24, -70001: list(header), **rest} if not rest:
            return Encrypted(tag, tuple(header), protected, ciphertext, recipients)
    raise MalformedError("a part's protected header is {1: 24, -70001: [...]}")


def _recipient(item: Any) -> tuple[bytes, bytes, bytes]:  # noqa: ANN401 - any CBOR value
    match item:
        case [bytes(protected), {-4: bytes(enc), **rest}, bytes(wrapped)] if not rest:
            _read_key(protected)
            return protected, enc, wrapped
    raise MalformedError("a recipient is [protected, {-4: enc}, wrapped key]")
