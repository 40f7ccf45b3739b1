"""The gateway's side of the envelope: batches in, signed bundles out, in one chain.

How it works: a chain is one run of the process in one lane. Each stream that has something to say gets one part in the
bundle, sealed with the next key of its epoch's ratchet; a stream's first part opens its epoch, whose secret is sealed
to every recipient and never written anywhere else. All parts are signed once. Numbers are taken when a part is sealed:
a bundle that cannot be stored is stored again as the same bytes, or the chain ends with the process; it is never sealed
a second time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cbor2 import CBORTag

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Recipient, Signer
from gateway.envelope.layout import self_stream
from gateway.envelope.ratchet import Ratchet
from gateway.envelope.records import MAX_RECORDS, encode_events, encode_records
from gateway.errors import SealError
from gateway.model import Batch, Event, Gap, Link, Record, SealedBundle, StreamSpan

__all__ = ["ChainWriter", "self_stream"]

_FEWEST_PARTS = 64
_LONGEST_MS = 24 * 3_600_000
_FIXED_BYTES = 400
"""More than everything in a bundle but its parts: signature, headers, ids, hashes, array heads."""
_PART_BYTES = 64
"""More than a part's header, tag and heads add to its plaintext."""
_EPOCH_BYTES = 200
_RECIPIENT_BYTES = 120
"""More than an epoch part's own, and each recipient's beside its encapsulated key."""
_ENC_BYTES = {50: 32, -70050: 1120}


@dataclass(slots=True)
class _Epoch:
    """The content secret of a stream in use, as the ratchet that it started."""

    no: int
    ratchet: Ratchet
    opened_ms: int


@dataclass(slots=True)
class _Draft:
    """A bundle in the making."""

    room_bytes: int
    epochs: list[CBORTag] = field(default_factory=list)
    parts: list[CBORTag] = field(default_factory=list)
    spans: list[StreamSpan] = field(default_factory=list)


class ChainWriter:
    """Writes one chain.

    `chain` is 16 random bytes, fresh for every process; `predecessor` is the last bundle of the chain before it.
    `recipients` may be replaced at any time and hold from each stream's next epoch on. `random(n)` gives secret bytes.
    An epoch is over with its segment, after `epoch_max_s` together with 64 parts, or after 24 hours.
    """

    def __init__(
        self,
        *,
        gateway: str,
        chain: bytes,
        signer: Signer,
        recipients: Sequence[Recipient],
        predecessor: Link | None,
        random: Callable[[int], bytes],
        epoch_max_s: int = 3600,
    ) -> None:
        if not layout.GATEWAY_ID.fullmatch(gateway) or len(chain) != layout.ID_BYTES:
            raise SealError("a gateway id is [A-Za-z0-9_-]{1,64}, a chain id 16 bytes")
        self.chain = chain
        self.head: Link | None = None
        self.recipients = tuple(recipients)
        self._gateway = gateway
        self._signer = signer
        self._predecessor = predecessor
        self._random = random
        self._epoch_max_ms = epoch_max_s * 1000
        self._aad = layout.part_aad(gateway, chain, signer.kid)
        self._epochs: dict[bytes, _Epoch] = {}
        self._next_epoch = 0
        self._next_sequence: dict[bytes, int] = {}

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """To whom the next epochs are sealed: one to eight."""
        return self._recipients

    @recipients.setter
    def recipients(self, recipients: Sequence[Recipient]) -> None:
        if not 1 <= len(recipients) <= cose.MAX_RECIPIENTS:
            raise SealError("an epoch is sealed to one to eight recipients")
        self._recipients = tuple(recipients)
        self._epoch_bytes = _EPOCH_BYTES + sum(_RECIPIENT_BYTES + _ENC_BYTES[each.alg] for each in recipients)

    def next_sequence(self, stream: bytes) -> int:
        """The number that the next record of `stream` gets in this chain."""
        return self._next_sequence.get(stream, 0)

    def end_segment(self) -> None:
        """End every epoch: a segment of the outbox never needs the keys of another."""
        self._epochs.clear()

    def seal(self, batches: Sequence[Batch], *, now_ms: int) -> tuple[SealedBundle, tuple[Batch, ...]]:
        """One bundle of at most 65,536 bytes, and what found no room in it; call again with that.

        Raises `SealError` if there is nothing to seal, or a record too large for any bundle.
        """
        draft = _Draft(layout.MAX_BUNDLE_BYTES - _FIXED_BYTES)
        rest: tuple[Batch, ...] = ()
        for place, batch in enumerate(batches):
            left = self._add(draft, batch, now_ms)
            if left is not None:
                rest = (left, *batches[place + 1 :])
                break
        if not draft.parts:
            raise SealError("a record is too large for a bundle" if rest else "a bundle holds at least one part")
        return self._sign(draft), rest

    def _add(self, draft: _Draft, batch: Batch, now_ms: int) -> Batch | None:
        """Seal as much of `batch` as there is room for; what is left of it, if anything."""
        opens = self._needs_epoch(batch.stream, now_ms)
        room_bytes = draft.room_bytes - _PART_BYTES - (self._epoch_bytes if opens else 0)
        fitting, plaintext = _fit(batch.content, room_bytes)
        if fitting == 0:
            return batch
        if opens:
            draft.epochs.append(self._open_epoch(batch.stream, now_ms))
            draft.room_bytes -= self._epoch_bytes
        content, rest = batch.content, None
        if not isinstance(content, Gap) and fitting < len(content):
            content, rest = content[:fitting], Batch(batch.stream, content[fitting:])
        self._seal_part(draft, Batch(batch.stream, content), plaintext)
        draft.room_bytes -= _PART_BYTES + len(plaintext)
        return rest

    def _needs_epoch(self, stream: bytes, now_ms: int) -> bool:
        epoch = self._epochs.get(stream)
        if epoch is None:
            return True
        age_ms = now_ms - epoch.opened_ms
        return age_ms >= _LONGEST_MS or (age_ms >= self._epoch_max_ms and epoch.ratchet.step >= _FEWEST_PARTS)

    def _open_epoch(self, stream: bytes, now_ms: int) -> CBORTag:
        secret = self._random(layout.SECRET_BYTES)
        header = [layout.EPOCH, self._next_epoch, stream, layout.commitment(secret)]
        plaintext = cbor.encode({1: 4, -1: secret})
        part, salt = cose.encrypt(header, self._recipients, plaintext, self._aad, self._random)
        self._epochs[stream] = _Epoch(self._next_epoch, Ratchet(secret, salt), now_ms)
        self._next_epoch += 1
        return part

    def _seal_part(self, draft: _Draft, batch: Batch, plaintext: bytes) -> None:
        epoch = self._epochs[batch.stream]
        content = batch.content
        first = self.next_sequence(batch.stream)
        kind = layout.GAP if isinstance(content, Gap) else layout.BATCH
        header = [kind, epoch.no, epoch.ratchet.step, first, batch.count]
        draft.parts.append(cose.encrypt0(header, epoch.ratchet.next(), plaintext, self._aad))
        draft.spans.append(StreamSpan(batch.stream, first, batch.count, *_times_ms(content)))
        self._next_sequence[batch.stream] = first + batch.count

    def _sign(self, draft: _Draft) -> SealedBundle:
        no = self.head.no + 1 if self.head else 0
        before = self.head or self._predecessor
        chain: list[Any] = [self.chain]
        if no == 0:
            chain += [before.chain, before.no] if before else [None, None]
        hashes = [layout.sha256(cbor.encode(epoch)) for epoch in draft.epochs]
        prev = before.hash if before else layout.NO_HASH
        payload = cbor.encode([layout.VERSION, self._gateway, chain, no, prev, hashes, draft.parts])
        sign1 = cose.sign1(self._signer, payload, layout.BUNDLE_AAD)
        # An array of two, whose first item is already encoded.
        data = b"\x82" + sign1 + cbor.encode(draft.epochs)
        if len(data) > layout.MAX_BUNDLE_BYTES:
            raise SealError("a bundle came out too large")
        self.head = Link(self.chain, no, layout.sha256(sign1))
        return SealedBundle(self.head, data, tuple(draft.spans), opens_epoch=bool(draft.epochs))


def _fit(content: tuple[Record, ...] | tuple[Event, ...] | Gap, room_bytes: int) -> tuple[int, bytes]:
    """How many of the records fit, and the plaintext that says so; 0 if none does."""
    if isinstance(content, Gap):
        plaintext = cbor.encode([content.cause, content.from_ms, content.to_ms])
        return (1, plaintext) if len(plaintext) <= room_bytes else (0, b"")
    count = min(len(content), MAX_RECORDS)
    while count:
        plaintext = _encode(content[:count])
        if len(plaintext) <= room_bytes:
            return count, plaintext
        count = min(count - 1, count * max(room_bytes, 0) // len(plaintext))
    return 0, b""


def _encode(content: tuple[Record, ...] | tuple[Event, ...]) -> bytes:
    first = content[0]
    if isinstance(first, Event):
        return encode_events(each for each in content if isinstance(each, Event))
    return encode_records([each for each in content if isinstance(each, Record)])


def _times_ms(content: tuple[Record, ...] | tuple[Event, ...] | Gap) -> tuple[int, int]:
    if isinstance(content, Gap):
        return content.from_ms, content.to_ms
    times = [each.time_ms for each in content]
    return min(times), max(times)
