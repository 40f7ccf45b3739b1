"""A second reader of the wire format, straight from `docs/format.md`: it judges the test vectors, and nothing else.

It shares no code with the reader proper, has an encoder of its own, keeps no bounds against hostile input, and raises
`SealError` at the first rule that does not hold.
"""

# ruff: noqa: PLR2004 - the format's numbers stand here as they stand in the document

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from gateway.errors import SealError

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def encode(value: Any) -> bytes:  # noqa: ANN401 - any CBOR value
    """RFC 8949, 4.2.1: shortest heads, definite lengths, map keys in bytewise order of their encodings."""
    match value:
        case None:
            return b"\xf6"
        case int() if not isinstance(value, bool):
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case list() | tuple():
            return _head(4, len(value)) + b"".join(map(encode, value))
        case Mapping():
            pairs = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
        case cbor2.CBORTag():
            return _head(6, value.tag) + encode(value.value)
    raise SealError(f"{type(value).__name__} has no place in this format")


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    info, size = next((info, size) for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)) if argument >> 8 * size == 0)
    return bytes([major << 5 | info]) + argument.to_bytes(size, "big")


def decode(data: bytes) -> Any:  # noqa: ANN401 - any CBOR value
    """What `data` says, if it says it in the one allowed encoding."""
    value = cbor2.loads(data)
    _demand(encode(value) == data, "not the deterministic encoding")
    return value


def _demand(holds: object, rule: str) -> None:
    if not holds:
        raise SealError(rule)


def sha256(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class Signed:
    """The parts of a COSE_Sign1."""

    data: bytes
    protected: bytes
    payload: bytes
    signature: bytes

    def message(self, external_aad: bytes) -> bytes:
        """RFC 9052, 4.4: Sig_structure."""
        return encode(["Signature1", self.protected, external_aad, self.payload])


def signed(item: Any) -> Signed:  # noqa: ANN401 - any CBOR value
    """The COSE_Sign1 in a decoded item."""
    _demand(isinstance(item, cbor2.CBORTag) and item.tag == 18, "not a COSE_Sign1")
    protected, unprotected, payload, signature = item.value
    _demand(unprotected == {}, "the unprotected map is not empty")
    return Signed(encode(item), protected, payload, signature)


@dataclass(slots=True)
class Reader:
    """Reads bundles in the order of their chains, with raw keys."""

    signer_public: bytes
    signer_alg: int
    recipient_private: bytes
    recipient_alg: int
    epochs: dict[tuple[bytes, int], tuple[bytes, bytes]] = field(default_factory=dict)
    """Per chain and epoch: the secret and the salt."""
    heads: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    """Per chain: number and hash of the last bundle."""
    sequences: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    """Per chain and stream: the next number."""
    streams: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    """Per chain and epoch: whose it is."""
    steps: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """Per chain and epoch: the next step."""

    def read(self, bundle: bytes) -> list[bytes]:
        """The plaintext of every part: epoch parts first, then the others, in order."""
        signed_item, epoch_items = decode(bundle)
        outer = signed(signed_item)
        kid = sha256(self.signer_public)[:16]
        _demand(decode(outer.protected) == {1: self.signer_alg, 4: kid}, "the signature's header")
        verify(self.signer_public, self.signer_alg, outer.signature, outer.message(b"iomt-gateway/1 bundle"))
        version, gateway, chain, no, prev, epoch_hashes, parts = decode(outer.payload)
        _demand(version == 1, "version")
        self._follow(chain, no, prev, sha256(outer.data))
        _demand([sha256(encode(each)) for each in epoch_items] == epoch_hashes, "the epoch parts' hashes")
        aad = encode(["iomt-gateway/1 part", gateway, chain[0], kid])
        return [self._epoch(chain[0], each, aad) for each in epoch_items] + [
            self._part(chain[0], each, aad) for each in parts
        ]

    def _follow(self, chain: list[Any], no: int, prev: bytes, digest: bytes) -> None:
        if no == 0:
            predecessor, last = chain[1:]
            known = (None, bytes(32)) if predecessor is None else self.heads[predecessor]
            _demand((last, prev) == known, "the predecessor")
        else:
            _demand(len(chain) == 1, "only bundle 0 names a predecessor")
            _demand((no - 1, prev) == self.heads[chain[0]], "the previous bundle")
        self.heads[chain[0]] = no, digest

    def _epoch(self, chain: bytes, item: cbor2.CBORTag, aad: bytes) -> bytes:
        _demand(item.tag == 96, "an epoch part is a COSE_Encrypt")
        protected, unprotected, ciphertext, recipients = item.value
        kind, epoch, stream, commitment = _header(protected)
        _demand(kind == 0 and unprotected == {} and len(stream) == 16, "an epoch part's header")
        key = self._unwrap(recipients)
        plaintext = _open(key, ciphertext, encode(["Encrypt", protected, aad]))
        cose_key = decode(plaintext)
        secret = cose_key[-1]
        _demand(cose_key == {1: 4, -1: secret} and len(secret) == 32, "an epoch's COSE_Key")
        _demand(sha256(b"iomt-gateway/1 epoch" + secret) == commitment, "the commitment")
        self.epochs[chain, epoch] = secret, protected
        self.streams[chain, epoch] = stream
        return plaintext

    def _unwrap(self, recipients: list[Any]) -> bytes:
        suite, private, public, enc_bytes = _recipient_key(self.recipient_alg, self.recipient_private)
        for protected, unprotected, wrapped in recipients:
            if decode(protected) == {1: self.recipient_alg, 4: sha256(public)[:16]}:
                enc = unprotected[-4]
                _demand(unprotected == {-4: enc} and len(enc) == enc_bytes, "a recipient's unprotected map")
                info = encode(["HPKE Recipient", 24, protected, b""])
                try:
                    return suite.decrypt(enc + wrapped, private, info=info)
                except InvalidTag as error:
                    raise SealError("not sealed to the recipient") from error
        raise SealError("not sealed to the recipient")

    def _part(self, chain: bytes, item: cbor2.CBORTag, aad: bytes) -> bytes:
        _demand(item.tag == 16, "a part is a COSE_Encrypt0")
        protected, unprotected, ciphertext = item.value
        kind, epoch, step, first, count = _header(protected)
        _demand(kind in (1, 2) and unprotected == {}, "a part's header")
        stream = self.streams[chain, epoch]
        _demand(first == self.sequences.get((chain, stream), 0), "the numbering of a stream")
        _demand(step == self.steps.get((chain, epoch), 0), "the ratchet's step")
        self.sequences[chain, stream] = first + count
        self.steps[chain, epoch] = step + 1
        return _open(message_key(*self.epochs[chain, epoch], step), ciphertext, encode(["Encrypt0", protected, aad]))


def _header(protected: bytes) -> list[Any]:
    headers = decode(protected)
    header: list[Any] = headers[-70001]
    _demand(headers == {1: 24, -70001: header}, "a part's protected headers")
    return header


def _open(key: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), ciphertext, aad)
    except InvalidTag as error:
        raise SealError("a part does not open") from error


def message_key(secret: bytes, salt: bytes, step: int) -> bytes:
    """The key of one step, from the epoch's secret."""
    chain_key = HKDF.extract(hashes.SHA256(), salt, secret)
    for _ in range(step):
        chain_key = HKDFExpand(hashes.SHA256(), 32, b"iomt-gateway/1 chain").derive(chain_key)
    return HKDFExpand(hashes.SHA256(), 32, b"iomt-gateway/1 message").derive(chain_key)


def verify(public: bytes, alg: int, signature: bytes, message: bytes) -> None:
    """Ed25519 (alg -8), or ES256 with s in the lower half (alg -7)."""
    try:
        if alg == -8:
            ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
            return
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        _demand(len(signature) == 64 and s <= _ORDER // 2, "s is in the upper half")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SealError("the signature") from error


def _recipient_key(alg: int, private: bytes) -> tuple[hpke.Suite, Any, bytes, int]:
    """Suite, private key, raw public key and length of the encapsulated key."""
    if alg == 50:
        key = x25519.X25519PrivateKey.from_private_bytes(private)
        suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
        return suite, key, key.public_key().public_bytes_raw(), 32
    seed = hashlib.shake_256(private).digest(96)
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(seed[64:])
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    public = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return suite, hpke.MLKEM768X25519PrivateKey(lattice, curve), public, 1120


def fixed_items(bundle: bytes) -> list[Any]:
    """A bundle without what HPKE drew and what depends on it (recipients, hashes, signature)."""
    signed_item, epoch_items = decode(bundle)
    outer = signed(signed_item)
    version, gateway, chain, no, _prev, _hashes, parts = decode(outer.payload)
    epochs = [(each.tag, each.value[:3], [recipient[0] for recipient in each.value[3]]) for each in epoch_items]
    return [outer.protected, version, gateway, chain, no, epochs, [(each.tag, each.value) for each in parts]]
