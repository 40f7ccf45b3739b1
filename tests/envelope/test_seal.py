import os
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.envelope import cose, layout
from gateway.envelope.open import parse
from gateway.envelope.ratchet import Ratchet
from gateway.envelope.seal import ChainWriter
from gateway.errors import SealError
from gateway.model import Batch, Event, Gap, Link, Record
from tests.envelope.conftest import (
    CHAIN,
    ED25519,
    GATEWAY,
    HOUR_MS,
    NOW_MS,
    OTHER,
    P256,
    X25519,
    XWING,
    A,
    B,
    C,
    Entropy,
    Reader,
    contents,
    records,
    seal,
    verify_key,
    writer,
)
from tests.envelope.test_records import EVENTS, RECORDS

BATCHES = st.lists(
    st.builds(
        Batch,
        st.sampled_from((A, B, C)),
        st.lists(RECORDS, min_size=1, max_size=6).map(tuple)
        | st.lists(EVENTS, min_size=1, max_size=3).map(tuple)
        | st.builds(Gap, st.integers(1, 9), st.just("refused"), st.integers(0, 9), st.integers(9, 99)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60)
@given(st.lists(BATCHES, min_size=1, max_size=4), st.sampled_from((ED25519, P256)))
def test_whatever_is_sealed_is_opened_as_it_was(ticks: list[list[Batch]], signer: object) -> None:
    own, reader = writer(signer=P256 if signer is P256 else ED25519), Reader(P256 if signer is P256 else ED25519)
    numbers: dict[bytes, int] = defaultdict(int)
    for batches in ticks:
        bundle = seal(own, *batches)
        read, parts = reader.read(bundle.data)
        assert [(part.stream, contents(part)) for part in parts] == [(each.stream, each.content) for each in batches]
        assert [(part.stream, part.first, part.count) for part in parts] == [
            (span.stream, span.first, span.count) for span in bundle.spans
        ]
        assert bundle.link == Link(read.chain, read.no, read.hash)
        for part in parts:
            assert part.first == numbers[part.stream]
            numbers[part.stream] += part.count
        assert all(own.next_sequence(stream) == number for stream, number in numbers.items())


def test_x_wing_and_x25519_recipients_open_the_same_epoch() -> None:
    data = seal(writer(recipients=(X25519.recipient, XWING.recipient)), Batch(A, records(3))).data
    for key in (X25519, XWING):
        _, (part,) = Reader(keys=[key]).read(data)
        assert contents(part) == records(3)


def test_bundles_are_numbered_and_chained_by_hash() -> None:
    own = writer()
    before = bytes(32)
    for no in range(5):
        bundle = parse(seal(own, Batch(A, records(1))).data)
        assert (bundle.gateway, bundle.chain, bundle.no, bundle.prev) == (GATEWAY, CHAIN, no, before)
        assert bundle.predecessor is None
        assert own.head == Link(CHAIN, no, bundle.hash)
        assert bundle.hash == layout.sha256(bundle.sign1)
        before = bundle.hash


def test_the_first_bundle_names_the_last_one_of_the_chain_before() -> None:
    last = Link(b"\x99" * 16, 41, b"\x77" * 32)
    own = writer(predecessor=last)
    first, second = (parse(seal(own, Batch(A, records(1))).data) for _ in range(2))
    assert (first.predecessor, first.prev) == ((last.chain, 41), last.hash)
    assert (second.predecessor, second.prev) == (None, first.hash)


def test_streams_are_numbered_apart_and_gaps_count() -> None:
    own = writer()
    seal(own, Batch(A, records(2)), Batch(B, records(1)), Batch(A, Gap(5, "refused", 0, 1)), Batch(A, records(1)))
    assert (own.next_sequence(A), own.next_sequence(B), own.next_sequence(C)) == (8, 1, 0)
    assert [(span.first, span.count) for span in seal(own, Batch(A, records(3))).spans] == [(8, 3)]


def test_a_span_tells_the_earliest_and_the_latest_time() -> None:
    out_of_order = tuple(Record("d", 1, 1, 0, time_ms) for time_ms in (500, 100, 900))
    own = writer()
    (span,) = seal(own, Batch(A, out_of_order)).spans
    assert (span.from_ms, span.to_ms) == (100, 900)
    (span,) = seal(own, Batch(A, Gap(1, "refused", 7, 8))).spans
    assert (span.from_ms, span.to_ms) == (7, 8)


def test_a_writer_made_again_never_uses_a_chain_a_key_or_a_number_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    seal_with = cose._seal

    def noting(tag: int, protected: bytes, key: bytes, plaintext: bytes, external_aad: bytes) -> bytes:
        keys.append(key)
        return seal_with(tag, protected, key, plaintext, external_aad)

    monkeypatch.setattr(cose, "_seal", noting)
    head: Link | None = None
    links, epochs, numbers, parts = set(), set(), set(), 0
    reader = Reader()
    for _ in range(50):
        own = writer(chain=os.urandom(16), predecessor=head, random=os.urandom)
        for _ in range(3):
            sealed = seal(own, Batch(A, records(1)), Batch(B, records(2)))
            bundle, opened = reader.read(sealed.data)
            assert bundle.prev == (head.hash if head else bytes(32))
            head = sealed.link
            links.add((head.chain, head.no))
            epochs |= {(bundle.chain, epoch.epoch) for epoch in bundle.epochs}
            numbers |= {(bundle.chain, part.stream, part.first + i) for part in opened for i in range(part.count)}
            parts += len(bundle.epochs) + len(bundle.parts)
    assert (len(links), len(epochs), len(numbers)) == (150, 100, 450)
    assert len(keys) == len(set(keys)) == parts


def test_ratchet_keys_are_unique_and_of_rfc_5869() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

    ratchet = Ratchet(b"s" * 32, b"salt")
    keys = [ratchet.next() for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert keys[0] == HKDF(SHA256(), 32, b"salt", b"iomt-gateway/1 message").derive(b"s" * 32)
    chain_key = HKDF(SHA256(), 32, b"salt", b"iomt-gateway/1 chain").derive(b"s" * 32)
    assert keys[1] == HKDFExpand(SHA256(), 32, b"iomt-gateway/1 message").derive(chain_key)


class Ticks:
    """Seals one record of stream A a call, and tells which epochs it opened."""

    def __init__(self, own: ChainWriter) -> None:
        self.own = own

    def __call__(self, now_ms: int = NOW_MS, stream: bytes = A) -> list[int]:
        sealed = seal(self.own, Batch(stream, records(1)), now_ms=now_ms)
        bundle = parse(sealed.data)
        assert sealed.opens_epoch == bool(bundle.epochs)
        return [epoch.epoch for epoch in bundle.epochs]


def test_an_epoch_opens_with_its_streams_first_part() -> None:
    tick = Ticks(writer())
    assert [tick(), tick(), tick(stream=B), tick(), tick(stream=B)] == [[0], [], [1], [], []]


def test_parts_of_a_stream_in_one_bundle_share_its_epoch() -> None:
    bundle = parse(seal(writer(), Batch(A, records(1)), Batch(B, records(1)), Batch(A, records(1))).data)
    assert [(epoch.epoch, epoch.stream) for epoch in bundle.epochs] == [(0, A), (1, B)]
    assert [(part.epoch, part.step) for part in bundle.parts] == [(0, 0), (1, 0), (0, 1)]


def test_every_epoch_ends_with_its_segment() -> None:
    tick = Ticks(writer())
    assert [tick(), tick(stream=B)] == [[0], [1]]
    tick.own.end_segment()
    assert [tick(), tick(stream=B), tick()] == [[2], [3], []]


def test_an_epoch_ends_after_its_time_and_64_parts_together() -> None:
    tick = Ticks(writer(epoch_max_s=3600))
    assert tick(NOW_MS) == [0]
    assert [tick(NOW_MS + HOUR_MS) for _ in range(63)] == [[]] * 63
    assert tick(NOW_MS + HOUR_MS - 1) == []
    assert tick(NOW_MS + HOUR_MS) == [1]
    assert [tick(NOW_MS + HOUR_MS) for _ in range(100)] == [[]] * 100


def test_an_epoch_ends_after_24_hours_however_few_its_parts() -> None:
    tick = Ticks(writer())
    assert [tick(NOW_MS), tick(NOW_MS + 24 * HOUR_MS - 1), tick(NOW_MS + 24 * HOUR_MS)] == [[0], [], [1]]


def test_a_clock_that_steps_back_opens_nothing_and_keeps_no_epoch_for_ever() -> None:
    tick = Ticks(writer())
    year_ms = 365 * 24 * HOUR_MS
    assert [tick(NOW_MS), tick(NOW_MS - year_ms), tick(NOW_MS - year_ms + 24 * HOUR_MS - 1)] == [[0], [], []]
    assert tick(NOW_MS - year_ms + 24 * HOUR_MS) == [1]


def test_an_epoch_ends_long_before_the_last_step_that_readers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    own = writer()
    tick = Ticks(own)
    tick()
    ratchet = own._epochs[A].ratchet
    monkeypatch.setattr(ratchet, "step", 32_767)
    assert tick() == []
    assert tick() == [1]


def test_new_recipients_hold_from_the_next_epoch_on() -> None:
    own = writer()
    seal(own, Batch(A, records(1)))
    own.recipients = (XWING.recipient,)
    assert not seal(own, Batch(A, records(1))).opens_epoch
    own.end_segment()
    _, (part,) = Reader(keys=[XWING]).read(seal(own, Batch(A, records(1))).data)
    assert part.first == 2


@pytest.mark.parametrize("count", [0, 9])
def test_an_epoch_has_one_to_eight_recipients(count: int) -> None:
    with pytest.raises(SealError):
        writer(recipients=(X25519.recipient,) * count)


@pytest.mark.parametrize("gateway", ["", "a.b", "a/b", "x" * 65, "ä", "gw\n"])
def test_a_gateway_id_is_a_topic_level(gateway: str) -> None:
    with pytest.raises(SealError):
        writer(gateway=gateway)


def test_a_chain_id_has_16_bytes() -> None:
    with pytest.raises(SealError):
        writer(chain=b"short")


@pytest.mark.parametrize(
    "bad",
    [
        Batch(B, ()),
        Batch(B, (Record("d", 1, 2**60, 0, 0),)),
        Batch(B, (Event(-1, "code"),)),
        Batch(B, Gap(0, "refused", 0, 0)),
    ],
)
def test_what_cannot_be_sealed_takes_no_number(bad: Batch) -> None:
    own = writer()
    with pytest.raises(SealError):
        own.seal((Batch(A, records(1)), bad), now_ms=NOW_MS)
    assert own.head is None
    read, (part,) = Reader().read(seal(own, Batch(A, records(1))).data)
    assert (read.no, part.first, read.parts[0].step, read.parts[0].epoch) == (0, 0, 0, 0)


def test_there_is_no_empty_bundle() -> None:
    with pytest.raises(SealError):
        writer().seal((), now_ms=NOW_MS)


def test_what_is_sealed_says_nothing_in_the_clear() -> None:
    secret = Record("C0:FF:EE:00:00:01", 1, 123_456_789, 0, NOW_MS, extras=((4, "a session of its own"),))
    data = seal(writer(), Batch(A, (secret,))).data
    assert b"C0:FF:EE" not in data
    assert b"a session" not in data
    assert (123_456_789).to_bytes(4, "big") not in data


def test_the_secret_is_drawn_and_the_signer_is_the_one_given() -> None:
    entropy = Entropy("drawn")
    data = seal(writer(random=entropy), Batch(A, records(1))).data
    bundle = parse(data)
    assert bundle.epochs[0].open(bundle, Reader().recipient_keys).secret in entropy.drawn
    with pytest.raises(SealError):
        bundle.verify(verify_key(OTHER))
