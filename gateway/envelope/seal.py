"""The gateway's side of the envelope: batches in, signed bundles out, in one chain.

How it works: a chain is one run of the process in one lane. Each stream that has something to say gets one part in the
bundle, sealed with the next key of its epoch's ratchet; a stream's first part opens its epoch, whose secret is sealed
to every recipient and never written anywhere else. All parts are signed once. Numbers are taken when a part is sealed:
a bundle that cannot be stored is stored again as the same bytes, or the chain ends with the process; it is never sealed
a second time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cbor2 import CBORTag

from gateway.envelope import cbor, cose, layout
from gateway.envelope.keys import Recipient, Signer
from gateway.envelope.layout import self_stream
from gateway.envelope.ratchet import Ratchet
from gateway.envelope.records import MAX_RECORDS, encode_events, encode_gap, encode_records
from gateway.errors import SealError
from gateway.model import Batch, Event, Gap, Link, Record, SealedBundle, StreamSpan

__all__ = ["ChainWriter", "self_stream"]

_FEWEST_PARTS = 64
_MOST_PARTS = layout.MAX_STEPS // 2
"""So far from what readers refuse that one bundle, however many parts of a stream it holds, does not get there."""
_LONGEST_MS = 24 * 3_600_000
_FIXED_BYTES = 400
"""More than everything in a bundle but its parts: signature, headers, ids, hashes, array heads."""
_PART_BYTES = 64
"""More than a part's header, tag and heads add to its plaintext."""
_EPOCH_BYTES = 170
_RECIPIENT_BYTES = 40
"""More than an epoch part's own, and each recipient's beside its wrapped key."""


@dataclass(slots=True)
class _Epoch:
    """The content secret of a stream in use, as the ratchet that it started."""

    no: int
    ratchet: Ratchet
    opened_ms: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """What becomes one part."""

    batch: Batch
    count: int
    plaintext: bytes
    opens: bool
    """It opens its stream's next epoch."""


class ChainWriter:
    """Writes one chain.

    `chain` is 16 random bytes, fresh for every process; `predecessor` is the last bundle of the chain before it.
    `recipients` may be replaced at any time and hold from each stream's next epoch on. `random(n)` gives secret bytes.
    An epoch is over with its segment, after `epoch_max_s` together with 64 parts, after 24 hours, or 32,768 parts.
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
        self._epoch_bytes = _EPOCH_BYTES + sum(_RECIPIENT_BYTES + each.wrapped_bytes for each in recipients)

    def next_sequence(self, stream: bytes) -> int:
        """The number that the next record of `stream` gets in this chain."""
        return self._next_sequence.get(stream, 0)

    def end_segment(self) -> None:
        """End every epoch: a segment of the outbox never needs the keys of another."""
        self._epochs.clear()

    def seal(self, batches: Sequence[Batch], *, now_ms: int) -> tuple[SealedBundle, tuple[Batch, ...]]:
        """One bundle of at most 65,536 bytes and as many records, and what found no room in it; call again with that.

        Raises `SealError` if there is nothing to seal, or something that cannot be; then no number has been taken.
        """
        pieces, rest = self._pack(batches, now_ms)
        if not pieces:
            raise SealError("a record is too large for a bundle" if rest else "a bundle holds at least one part")
        epochs: list[CBORTag] = []
        parts: list[CBORTag] = []
        spans: list[StreamSpan] = []
        for piece in pieces:
            if piece.opens:
                epochs.append(self._open_epoch(piece.batch.stream, now_ms))
            part, span = self._seal_part(piece)
            parts.append(part)
            spans.append(span)
        return self._sign(epochs, parts, tuple(spans)), rest

    def _pack(self, batches: Sequence[Batch], now_ms: int) -> tuple[list[_Piece], tuple[Batch, ...]]:
        """Divide into what fits into one bundle and what does not, in order."""
        room_bytes = layout.MAX_BUNDLE_BYTES - _FIXED_BYTES
        room_records = layout.MAX_BUNDLE_RECORDS
        pieces: list[_Piece] = []
        opened: set[bytes] = set()
        for place, batch in enumerate(batches):
            opens = batch.stream not in opened and self._needs_epoch(batch.stream, now_ms)
            room_bytes -= _PART_BYTES + (self._epoch_bytes if opens else 0)
            count, plaintext = _fit(batch.content, room_bytes, room_records)
            if count == 0:
                return pieces, tuple(batches[place:])
            fitting, left = _split(batch, count)
            pieces.append(_Piece(fitting, count, plaintext, opens))
            if left is not None:
                return pieces, (left, *batches[place + 1 :])
            if opens:
                opened.add(batch.stream)
            room_bytes -= len(plaintext)
            room_records -= 0 if isinstance(batch.content, Gap) else count
        return pieces, ()

    def _needs_epoch(self, stream: bytes, now_ms: int) -> bool:
        epoch = self._epochs.get(stream)
        if epoch is None:
            return True
        epoch.opened_ms = min(epoch.opened_ms, now_ms)  # a clock that steps back starts the count anew
        age_ms = now_ms - epoch.opened_ms
        parts = epoch.ratchet.step
        return (
            (age_ms >= self._epoch_max_ms and parts >= _FEWEST_PARTS) or age_ms >= _LONGEST_MS or parts >= _MOST_PARTS
        )

    def _open_epoch(self, stream: bytes, now_ms: int) -> CBORTag:
        secret = self._random(layout.SECRET_BYTES)
        header = [layout.EPOCH, self._next_epoch, stream, layout.commitment(secret)]
        plaintext = cbor.encode({1: 4, -1: secret})
        part, salt = cose.encrypt(header, self._recipients, plaintext, self._aad, self._random)
        self._epochs[stream] = _Epoch(self._next_epoch, Ratchet(secret, salt), now_ms)
        self._next_epoch += 1
        return part

    def _seal_part(self, piece: _Piece) -> tuple[CBORTag, StreamSpan]:
        stream, content = piece.batch.stream, piece.batch.content
        epoch = self._epochs[stream]
        first = self.next_sequence(stream)
        kind = layout.GAP if isinstance(content, Gap) else layout.BATCH
        header = [kind, epoch.no, epoch.ratchet.step, first, piece.count]
        part = cose.encrypt0(header, epoch.ratchet.next(), piece.plaintext, self._aad)
        self._next_sequence[stream] = first + piece.count
        return part, StreamSpan(stream, first, piece.count, *_times_ms(content))

    def _sign(self, epochs: list[CBORTag], parts: list[CBORTag], spans: tuple[StreamSpan, ...]) -> SealedBundle:
        no = self.head.no + 1 if self.head else 0
        before = self.head or self._predecessor
        chain: list[Any] = [self.chain]
        if no == 0:
            chain += [before.chain, before.no] if before else [None, None]
        hashes = [layout.sha256(cbor.encode(epoch)) for epoch in epochs]
        prev = before.hash if before else layout.NO_HASH
        payload = cbor.encode([layout.VERSION, self._gateway, chain, no, prev, hashes, parts])
        sign1 = cose.sign1(self._signer, payload, layout.BUNDLE_AAD)
        # An array of two, whose first item is already encoded.
        data = b"\x82" + sign1 + cbor.encode(epochs)
        self.head = Link(self.chain, no, layout.sha256(sign1))
        return SealedBundle(self.head, data, spans, opens_epoch=bool(epochs))


def _split(batch: Batch, count: int) -> tuple[Batch, Batch | None]:
    """The first `count` records, and the others if there are any."""
    content = batch.content
    if isinstance(content, Gap) or count == len(content):
        return batch, None
    return Batch(batch.stream, content[:count]), Batch(batch.stream, content[count:])


def _fit(
    content: tuple[Record, ...] | tuple[Event, ...] | Gap, room_bytes: int, room_records: int
) -> tuple[int, bytes]:
    """How many of the records fit, and the plaintext that says so; 0 if none does. Raises `SealError`."""
    if isinstance(content, Gap):
        plaintext = encode_gap(content)
        return (content.count, plaintext) if len(plaintext) <= room_bytes else (0, b"")
    if not content:
        raise SealError("a batch holds at least one record")
    count = min(len(content), MAX_RECORDS, room_records)
    while count and room_bytes > 0:
        plaintext = _encode(content[:count])
        if len(plaintext) <= room_bytes:
            return count, plaintext
        count = min(count - 1, count * room_bytes // len(plaintext))
    return 0, b""


def _encode(content: tuple[Record, ...] | tuple[Event, ...]) -> bytes:
    if isinstance(content[0], Event):
        return encode_events(content)
    return encode_records(content)


def _times_ms(content: tuple[Record, ...] | tuple[Event, ...] | Gap) -> tuple[int, int]:
    if isinstance(content, Gap):
        return content.from_ms, content.to_ms
    times = [each.time_ms for each in content]
    return min(times), max(times)
