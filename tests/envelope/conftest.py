"""One gateway with fixed keys, one that reads everything, and bundles forged by hand."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cbor2 import CBORTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import HPKE_X25519, HPKE_XWING, Recipient, RecipientKey, Signer, VerifyKey, signer_for
from gateway.envelope.open import OpenedPart, OpenEpoch, SignedBundle, parse
from gateway.envelope.seal import ChainWriter
from gateway.model import Batch, Event, Gap, Link, Record, SealedBundle

GATEWAY = "gw-1"
CHAIN = b"\xc1" * 16
A, B, C = (bytes([letter]) * 16 for letter in b"ABC")
NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000


class Entropy:
    """Repeatable bytes, never the same twice."""

    def __init__(self, seed: str = "") -> None:
        self.drawn: list[bytes] = []
        self._seed = seed

    def __call__(self, size: int) -> bytes:
        self.drawn.append(hashlib.shake_256(f"{self._seed}/{len(self.drawn)}".encode()).digest(size))
        return self.drawn[-1]


ED25519 = signer_for(ed25519.Ed25519PrivateKey.from_private_bytes(Entropy("signer")(32)))
OTHER = signer_for(ed25519.Ed25519PrivateKey.from_private_bytes(Entropy("other")(32)))
P256 = signer_for(ec.derive_private_key(7, ec.SECP256R1()))
X25519 = RecipientKey(HPKE_X25519, Entropy("x25519")(32))
XWING = RecipientKey(HPKE_XWING, Entropy("xwing")(32))


def verify_key(signer: Signer) -> VerifyKey:
    return VerifyKey(signer.alg, signer.public)


def writer(
    *,
    gateway: str = GATEWAY,
    chain: bytes = CHAIN,
    signer: Signer = ED25519,
    recipients: Sequence[Recipient] = (X25519.recipient,),
    predecessor: Link | None = None,
    random: Callable[[int], bytes] | None = None,
    epoch_max_s: int = 3600,
) -> ChainWriter:
    return ChainWriter(
        gateway=gateway,
        chain=chain,
        signer=signer,
        recipients=recipients,
        predecessor=predecessor,
        random=random or Entropy(chain.hex()),
        epoch_max_s=epoch_max_s,
    )


def records(count: int, start: int = 0) -> tuple[Record, ...]:
    return tuple(
        Record("C0:00:00:00:00:01", 1, number, -1, NOW_MS + 1000 * number, extras=((3, number),))
        for number in range(start, start + count)
    )


def seal(own: ChainWriter, *batches: Batch, now_ms: int = NOW_MS) -> SealedBundle:
    bundle, rest = own.seal(batches, now_ms=now_ms)
    assert not rest
    return bundle


def one_bundle(signer: Signer = ED25519) -> bytes:
    """Two streams, a gap, events: everything that a bundle can hold."""
    own = writer(signer=signer)
    events = (Event(NOW_MS, "start", ("0.1.0", 1, b"\x02", None)),)
    return seal(own, Batch(A, records(2)), Batch(B, events), Batch(A, Gap(3, "refused", NOW_MS, NOW_MS + 1))).data


class Reader:
    """Reads bundles of one signer in the order in which they come, and remembers epochs."""

    def __init__(self, signer: Signer = ED25519, keys: Iterable[RecipientKey] = (X25519,)) -> None:
        self.key = verify_key(signer)
        self.recipient_keys: Mapping[bytes, RecipientKey] = {key.kid: key for key in keys}
        self.epochs: dict[tuple[bytes, int], OpenEpoch] = {}

    def read(self, data: bytes) -> tuple[SignedBundle, list[OpenedPart]]:
        bundle = parse(data)
        bundle.verify(self.key)
        for epoch in bundle.epochs:
            self.epochs[bundle.chain, epoch.epoch] = epoch.open(bundle, self.recipient_keys)
        return bundle, [part.open(bundle, self.epochs[bundle.chain, part.epoch]) for part in bundle.parts]


def contents(part: OpenedPart) -> tuple[Record, ...] | tuple[Event, ...] | Gap:
    return part.content if isinstance(part.content, tuple | Gap) else part.content.records()


def mutable(value: Any) -> Any:
    """A decoded value that a test may change."""
    if isinstance(value, tuple):
        return [mutable(each) for each in value]
    if isinstance(value, CBORTag):
        return CBORTag(value.tag, mutable(value.value))
    return dict(value) if isinstance(value, Mapping) else value


def forge(data: bytes, change: Callable[[list[Any]], Any], signer: Signer = ED25519) -> bytes:
    """The bundle with its payload changed and signed again: by a signer who does not keep the rules."""
    signed, epochs = mutable(cbor.decode(data))
    payload = mutable(cbor.decode(signed.value[2]))
    change(payload)
    return b"\x82" + cose.sign1(signer, cbor.encode(payload), layout.BUNDLE_AAD) + cbor.encode(epochs)


def relabel(part: CBORTag, header: Sequence[Any]) -> CBORTag:
    """The same ciphertext under another header."""
    return CBORTag(part.tag, [cbor.encode({1: 24, -70001: list(header)}), *part.value[1:]])


def header_of(part: CBORTag) -> list[Any]:
    return list(cbor.decode(part.value[0])[-70001])
