"""Signers, verifying keys and recipients: COSE algorithms on the keys of `cryptography`.

Every kid is SHA-256(raw public key)[:16]. Raw public keys: Ed25519 and X25519 32 bytes, P-256 x||y (64), X-Wing 1216.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import DecryptError, SealError, SignatureError

EDDSA, ES256 = -8, -7
HPKE_X25519, HPKE_XWING = 50, -70050
"""HPKE-4 key encryption, and X-Wing with the same KDF and AEAD (private number until one is assigned)."""

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ANY_X25519 = x25519.X25519PrivateKey.from_private_bytes(bytes(32))
_ENC_BYTES = {HPKE_X25519: 32, HPKE_XWING: 1120}
_PUBLIC_BYTES = {EDDSA: 32, ES256: 64, HPKE_X25519: 32, HPKE_XWING: 1216}
_SUITES = {
    HPKE_X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
    HPKE_XWING: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
}


def kid(public: bytes) -> bytes:
    """The identifier of a raw public key: 16 bytes."""
    return hashlib.sha256(public).digest()[:16]


class Signer(Protocol):
    """A private signing key, wherever it lives."""

    @property
    def alg(self) -> int:
        """COSE algorithm: -8 or -7."""

    @property
    def kid(self) -> bytes:
        """16 bytes."""

    @property
    def public(self) -> bytes:
        """Raw public key."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes; with ES256 r||s and s at most half the order."""


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """Signs with Ed25519 (RFC 8032)."""

    private: ed25519.Ed25519PrivateKey = field(repr=False)
    alg: int = field(default=EDDSA, init=False)
    public: bytes = field(init=False)
    kid: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", self.private.public_key().public_bytes_raw())
        object.__setattr__(self, "kid", kid(self.public))

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(message)


@dataclass(frozen=True, slots=True)
class Es256Signer:
    """Signs with ECDSA on P-256 and SHA-256, s normalised to the lower half."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    alg: int = field(default=ES256, init=False)
    public: bytes = field(init=False)
    kid: bytes = field(init=False)

    def __post_init__(self) -> None:
        numbers = self.private.public_key().public_numbers()
        object.__setattr__(self, "public", numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"))
        object.__setattr__(self, "kid", kid(self.public))

    def sign(self, message: bytes) -> bytes:
        """r||s, 64 bytes."""
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")


def signer_for(private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> Signer:
    """The signer of an Ed25519 or P-256 key."""
    return Ed25519Signer(private) if isinstance(private, ed25519.Ed25519PrivateKey) else Es256Signer(private)


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A raw public signing key. Raises `SignatureError` when made of bytes that are no key of `alg`."""

    alg: int
    public: bytes
    kid: bytes = field(init=False)
    _key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.alg not in (EDDSA, ES256) or len(self.public) != _PUBLIC_BYTES[self.alg]:
            raise SignatureError(f"no verifying key of algorithm {self.alg}")
        try:
            object.__setattr__(self, "_key", self._load())
        except ValueError as error:
            raise SignatureError("not a public key") from error
        object.__setattr__(self, "kid", kid(self.public))

    def _load(self) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
        if self.alg == EDDSA:
            return ed25519.Ed25519PublicKey.from_public_bytes(self.public)
        x, y = int.from_bytes(self.public[:32], "big"), int.from_bytes(self.public[32:], "big")
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()

    @property
    def pem(self) -> bytes:
        """The key as a file keeps it (SubjectPublicKeyInfo)."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `SignatureError` unless `signature` is this key's over `message`, in its one allowed form."""
        if len(signature) != 64:  # noqa: PLR2004 - both algorithms
            raise SignatureError("a signature has 64 bytes")
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, message)
            else:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                if s > _P256_ORDER // 2:
                    raise SignatureError("s is in the upper half")
                self._key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise SignatureError("the signature is not this key's") from error


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody to whom epochs are sealed. Raises `SealError` when made of bytes that are no key of `alg`."""

    alg: int
    public: bytes
    kid: bytes = field(init=False)
    _key: hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.alg not in _SUITES or len(self.public) != _PUBLIC_BYTES[self.alg]:
            raise SealError(f"no recipient key of algorithm {self.alg}")
        try:
            object.__setattr__(self, "_key", self._load())
        except ValueError as error:
            raise SealError("not a recipient's public key") from error
        object.__setattr__(self, "kid", kid(self.public))

    def _load(self) -> hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey:
        x_key = x25519.X25519PublicKey.from_public_bytes(self.public[-32:])
        _ANY_X25519.exchange(x_key)  # a point of low order, to which nothing can be sealed, is refused here
        if self.alg == HPKE_X25519:
            return x_key
        return hpke.MLKEM768X25519PublicKey(mlkem.MLKEM768PublicKey.from_public_bytes(self.public[:-32]), x_key)

    @property
    def wrapped_bytes(self) -> int:
        """Length of the encapsulated key and of a 32-byte key under it."""
        return _ENC_BYTES[self.alg] + 32 + 16

    def wrap(self, secret: bytes, info: bytes) -> tuple[bytes, bytes]:
        """HPKE base mode: (encapsulated key, ciphertext of `secret`)."""
        sealed = _SUITES[self.alg].encrypt(secret, self._key, info=info)
        return sealed[: _ENC_BYTES[self.alg]], sealed[_ENC_BYTES[self.alg] :]


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A recipient's private key: the 32-byte X-Wing seed, or the raw X25519 key."""

    alg: int
    private: bytes = field(repr=False)
    recipient: Recipient = field(init=False)
    _key: hpke.MLKEM768X25519PrivateKey | x25519.X25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.alg not in _SUITES or len(self.private) != 32:  # noqa: PLR2004 - both algorithms
            raise SealError(f"no private recipient key of algorithm {self.alg}")
        if self.alg == HPKE_X25519:
            x_key = x25519.X25519PrivateKey.from_private_bytes(self.private)
            object.__setattr__(self, "_key", x_key)
            public = x_key.public_key().public_bytes_raw()
        else:
            # draft-connolly-cfrg-xwing-kem, 5.2: SHAKE-256 expands the seed to d||z and the X25519 key.
            expanded = hashlib.shake_256(self.private).digest(96)
            m_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
            x_key = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
            object.__setattr__(self, "_key", hpke.MLKEM768X25519PrivateKey(m_key, x_key))
            public = m_key.public_key().public_bytes_raw() + x_key.public_key().public_bytes_raw()
        object.__setattr__(self, "recipient", Recipient(self.alg, public))

    @property
    def kid(self) -> bytes:
        """16 bytes."""
        return self.recipient.kid

    def unwrap(self, enc: bytes, sealed: bytes, info: bytes) -> bytes:
        """What `Recipient.wrap` sealed. Raises `DecryptError`."""
        if len(enc) != _ENC_BYTES[self.alg]:
            raise DecryptError("the encapsulated key has a wrong length")
        try:
            return _SUITES[self.alg].decrypt(enc + sealed, self._key, info=info)
        except (InvalidTag, ValueError) as error:
            raise DecryptError("not sealed to this key") from error
