"""The receiver's side of the envelope: strict parsing, then verification, then opening, each a step of its own.

`parse` believes nothing yet: it reads structure. `SignedBundle.verify` checks the signature, `EpochPart.open` recovers
an epoch's secret with a recipient's key, `SealedPart.open` opens what was sealed under it. Whoever calls looks up the
verifying key by `signer_kid`, and compares its gateway with `gateway` and with the topic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import get_ident
from typing import Any

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import RecipientKey, VerifyKey
from gateway.envelope.ratchet import Ratchet
from gateway.envelope.records import MAX_RECORDS, Columns, decode_content, decode_gap
from gateway.errors import DecryptError, EpochHashError, MalformedError
from gateway.model import Event, Gap


@lru_cache(maxsize=4096)
def _position(_thread: int, secret: bytes, salt: bytes) -> Ratchet:
    """Where a thread left an epoch's ratchet; parts mostly come in order."""
    return Ratchet(secret, salt)


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """An epoch's secret: with it every part of the epoch opens."""

    chain: bytes
    epoch: int
    stream: bytes
    secret: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    def message_key(self, step: int) -> bytes:
        """The key of `step`, counted from 0."""
        ratchet = _position(get_ident(), self.secret, self.salt)
        if ratchet.step > step:
            ratchet = Ratchet(self.secret, self.salt)
        while ratchet.step < step:
            ratchet.next()
        return ratchet.next()


@dataclass(frozen=True, slots=True)
class OpenedPart:
    """What a part says: records or a gap of one stream, numbered from `first`."""

    stream: bytes
    first: int
    count: int
    content: Columns | tuple[Event, ...] | Gap


@dataclass(frozen=True, slots=True)
class EpochPart:
    """An epoch part, not opened yet."""

    epoch: int
    stream: bytes
    data: bytes
    """Its encoding, as the signature covers it by hash."""
    _commitment: bytes
    _sealed: cose.Encrypted

    def open(self, bundle: "SignedBundle", keys: Mapping[bytes, RecipientKey]) -> OpenEpoch:
        """The epoch's secret, by whichever of `keys` it was sealed to.

        Raises `DecryptError` if it does not open or contradicts its commitment, `MalformedError`.
        """
        plaintext = self._sealed.open(self._sealed.unwrap(keys), bundle.part_aad)
        match cbor.decode(plaintext):
            case {1: 4, -1: bytes(secret), **rest} if not rest and len(secret) == layout.SECRET_BYTES:
                pass
            case _:
                raise MalformedError("an epoch's content is a COSE_Key of 32 bytes")
        if layout.commitment(secret) != self._commitment:
            raise DecryptError("an epoch's secret is not the one it commits to")
        return OpenEpoch(bundle.chain, self.epoch, self.stream, secret, self._sealed.content)


@dataclass(frozen=True, slots=True)
class SealedPart:
    """A batch or gap part, not opened yet."""

    kind: int
    epoch: int
    step: int
    first: int
    count: int
    _sealed: cose.Encrypted

    def open(self, bundle: "SignedBundle", epoch: OpenEpoch) -> OpenedPart:
        """What it says. Raises `DecryptError`, `MalformedError`."""
        plaintext = self.plaintext(bundle, epoch)
        decode = decode_gap if self.kind == layout.GAP else decode_content
        return OpenedPart(epoch.stream, self.first, self.count, decode(plaintext, self.count))

    def plaintext(self, bundle: "SignedBundle", epoch: OpenEpoch) -> bytes:
        """The bytes under the seal. Raises `DecryptError`."""
        return self._sealed.open(epoch.message_key(self.step), bundle.part_aad)


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A bundle whose structure is right; nothing in it is proven before `verify`."""

    gateway: str
    signer_kid: bytes
    chain: bytes
    no: int
    predecessor: tuple[bytes, int] | None
    """In bundle 0: the chain before this one and its last bundle's number."""
    prev: bytes
    hash: bytes
    sign1: bytes
    """The signed object alone, for the archive."""
    epoch_hashes: tuple[bytes, ...]
    epochs: tuple[EpochPart, ...]
    parts: tuple[SealedPart, ...]
    part_aad: bytes
    _signed: cose.Sign1

    def verify(self, key: VerifyKey) -> None:
        """Raise `SignatureError` unless `key` signed it, `EpochHashError` unless its epoch parts are all there."""
        self.verify_signature(key)
        if tuple(layout.sha256(epoch.data) for epoch in self.epochs) != self.epoch_hashes:
            raise EpochHashError("the epoch parts are not those that were signed")

    def verify_signature(self, key: VerifyKey) -> None:
        """Raise `SignatureError` unless `key` signed it: enough for an archive, which keeps epoch parts elsewhere."""
        self._signed.verify(key, layout.BUNDLE_AAD)


def parse(data: bytes) -> SignedBundle:
    """Read a bundle. Raises `MalformedError` for whatever is not exactly of this format, version 1."""
    if len(data) > layout.MAX_BUNDLE_BYTES:
        raise MalformedError("a bundle has at most 65,536 bytes")
    match cbor.decode(data):
        case [signed_item, list(epoch_items)]:
            return _bundle(signed_item, tuple(_epoch(item) for item in epoch_items))
    raise MalformedError("a bundle is [COSE_Sign1, [epoch part, ...]]")


def parse_signed(data: bytes) -> SignedBundle:
    """Read a COSE_Sign1 alone, as archived: the chain verifies without the epoch parts, `verify` asks for them.

    Raises `MalformedError`.
    """
    return _bundle(cbor.decode(data), ())


def _bundle(item: Any, epochs: tuple[EpochPart, ...]) -> SignedBundle:  # noqa: ANN401 - any CBOR value
    signed = cose.read_sign1(item)
    match cbor.decode(signed.payload):
        case [1, str(gateway), list(chain), int(no), bytes(prev), list(hashes), list(parts), *_] if (
            layout.GATEWAY_ID.fullmatch(gateway)
            and cbor.is_uint(no)
            and len(prev) == layout.HASH_BYTES
            and all(type(each) is bytes and len(each) == layout.HASH_BYTES for each in hashes)
            and parts
        ):
            chain_id, predecessor = _chain(chain, no)
        case _:
            raise MalformedError("not a bundle's payload, or of an unknown version")
    if no == 0 and predecessor is None and prev != layout.NO_HASH:
        raise MalformedError("a chain without a predecessor begins with a hash of zeros")
    sealed_parts = tuple(map(_part, parts))
    if sum(part.count for part in sealed_parts if part.kind == layout.BATCH) > layout.MAX_BUNDLE_RECORDS:
        raise MalformedError("a bundle has at most 65,536 records")
    _check_steps(sealed_parts)
    sign1 = cbor.encode(item)
    return SignedBundle(
        gateway=gateway,
        signer_kid=signed.kid,
        chain=chain_id,
        no=no,
        predecessor=predecessor,
        prev=prev,
        hash=layout.sha256(sign1),
        sign1=sign1,
        epoch_hashes=tuple(hashes),
        epochs=epochs,
        parts=sealed_parts,
        part_aad=layout.part_aad(gateway, chain_id, signed.kid),
        _signed=signed,
    )


def _check_steps(parts: tuple[SealedPart, ...]) -> None:
    """Steps ascend: so one pass over an epoch's ratchet yields the keys of all of its parts."""
    steps: dict[int, int] = {}
    for part in parts:
        if part.step <= steps.get(part.epoch, -1):
            raise MalformedError("the steps of an epoch's parts ascend within a bundle")
        steps[part.epoch] = part.step


def _chain(item: list[Any], no: int) -> tuple[bytes, tuple[bytes, int] | None]:
    match item:
        case [bytes(chain)] if no > 0 and _is_id(chain):
            return chain, None
        case [bytes(chain), None, None] if no == 0 and _is_id(chain):
            return chain, None
        case [bytes(chain), bytes(before), int(last)] if (
            no == 0 and _is_id(chain) and _is_id(before) and cbor.is_uint(last)
        ):
            return chain, (before, last)
    raise MalformedError("a chain is [id], in bundle 0 [id, predecessor, its last number]")


def _is_id(value: bytes) -> bool:
    return len(value) == layout.ID_BYTES


def _epoch(item: Any) -> EpochPart:  # noqa: ANN401 - any CBOR value
    sealed = cose.read_encrypted(item)
    match sealed.header:
        case (0, int(epoch), bytes(stream), bytes(commitment)) if (
            sealed.tag == cose.ENCRYPT
            and cbor.is_uint(epoch)
            and _is_id(stream)
            and len(commitment) == layout.HASH_BYTES
        ):
            return EpochPart(epoch, stream, cbor.encode(item), commitment, sealed)
    raise MalformedError("an epoch part's header is [0, epoch no, stream id, commitment]")


def _part(item: Any) -> SealedPart:  # noqa: ANN401 - any CBOR value
    sealed = cose.read_encrypted(item)
    match sealed.header:
        case (1 | 2 as kind, int(epoch), int(step), int(first), int(count)) if (
            sealed.tag == cose.ENCRYPT0
            and 0 <= epoch <= cbor.MAX_INT
            and 0 <= step < layout.MAX_STEPS
            and 0 <= first < first + count <= cbor.MAX_INT
            and (kind == layout.GAP or count <= MAX_RECORDS)
        ):
            return SealedPart(kind, epoch, step, first, count, sealed)
    raise MalformedError("a part's header is [kind, epoch no, step, first seq, count], of a known kind")
