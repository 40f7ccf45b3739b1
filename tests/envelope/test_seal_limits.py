"""The largest parts and bundles: what does not fit is split, and nothing is lost."""

import os
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import SealError
from gateway.model import Batch, Event, Gap, Link, Record
from tests.envelope.conftest import (
    CHAIN,
    NOW_MS,
    X25519,
    XWING,
    A,
    B,
    C,
    Reader,
    contents,
    records,
    seal,
    writer,
)
from tests.envelope.sealing import incompressible, seal_all


def test_what_does_not_fit_is_split_and_nothing_is_lost() -> None:
    batches = (Batch(A, incompressible(9000)), Batch(B, incompressible(5000)), Batch(C, incompressible(1)))
    own, reader = writer(), Reader()
    bundles = seal_all(own, batches)
    got: dict[bytes, list[object]] = defaultdict(list)
    for bundle in bundles:
        assert len(bundle.data) <= 65_536
        for part in reader.read(bundle.data)[1]:
            assert part.first == len(got[part.stream])
            assert part.count <= 4096
            content = contents(part)
            assert isinstance(content, tuple)
            got[part.stream] += content
    assert {stream: tuple(content) for stream, content in got.items()} == {
        batch.stream: batch.content for batch in batches
    }
    assert all(len(bundle.data) > 50_000 for bundle in bundles[:-1])


def test_a_part_holds_at_most_4096_records() -> None:
    own = writer()
    same = (Record("d", 1, 7, 0, 0),) * 10_000
    assert [sum(span.count for span in bundle.spans) for bundle in seal_all(own, (Batch(A, same),))] == [
        4096,
        4096,
        1808,
    ]


def test_a_bundle_holds_at_most_65536_records() -> None:
    same = (Record("d", 1, 7, 0, 0),) * 3000
    streams = [number.to_bytes(16, "big") for number in range(30)]
    batches = (*(Batch(stream, same) for stream in streams), Batch(A, Gap(100_000, "refused", 0, 0)))
    bundles = seal_all(writer(), batches)
    assert [sum(span.count for span in bundle.spans) for bundle in bundles] == [65_536, 24_464 + 100_000]


@pytest.mark.parametrize("recipients", [(X25519.recipient,), (XWING.recipient,) * 8])
def test_many_streams_are_split_over_bundles(recipients: tuple[object, ...]) -> None:
    chosen = (X25519.recipient,) if len(recipients) == 1 else (XWING.recipient,) * 8
    own = writer(recipients=chosen, random=os.urandom)
    count = 400 if len(recipients) == 1 else 20
    batches = tuple(Batch(number.to_bytes(16, "big"), records(1)) for number in range(count))
    bundles = seal_all(own, batches)
    assert max(len(bundle.data) for bundle in bundles) <= 65_536
    assert [span.stream for bundle in bundles for span in bundle.spans] == [batch.stream for batch in batches]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((A, B, C)), st.integers(1, 3000), st.integers(0, 60_000)), min_size=1, max_size=6
    ),
    st.sampled_from(["g", "g" * 64]),
    st.integers(1, 8),
)
def test_no_bundle_is_ever_larger_than_65536_bytes(
    shapes: list[tuple[bytes, int, int]], gateway: str, recipients: int
) -> None:
    batches = tuple(
        Batch(stream, tuple(replace(r, extras=((4, "x" * (size // (i + 1))),)) for i, r in enumerate(records(count))))
        for stream, count, size in shapes
    )
    own = writer(gateway=gateway, recipients=(X25519.recipient,) * recipients)
    bundles = seal_all(own, batches)
    assert all(len(bundle.data) <= 65_536 for bundle in bundles)
    assert sum(span.count for bundle in bundles for span in bundle.spans) == sum(count for _, count, _ in shapes)


def test_the_estimate_of_a_bundles_overhead_holds_at_its_worst() -> None:
    own = writer(gateway="g" * 64, predecessor=Link(CHAIN, 2**53 - 1, bytes(32)))
    own._next_epoch = 2**40
    own._next_sequence[A] = 2**52
    largest = 0
    for size in range(64_000, 65_536):
        huge = Batch(A, (Record("d", 1, 0, 0, 0, extras=((4, "x" * size),)),))
        own._epochs.clear()
        try:
            largest = len(seal(own, huge).data)
        except SealError:
            break
    assert 64_500 < largest <= 65_536


def test_the_estimates_of_parts_and_epochs_hold_at_their_worst() -> None:
    own = writer(gateway="g" * 64)
    own._next_epoch = 2**40
    streams = [number.to_bytes(16, "big") for number in range(1500)]
    own._next_sequence.update(dict.fromkeys(streams, 2**52))
    batches = tuple(Batch(stream, (Event(2**52, ""),)) for stream in streams)
    opening = seal_all(own, batches)
    for epoch in own._epochs.values():
        epoch.ratchet.step = 30_000
    following = seal_all(own, batches)
    for bundles in (opening, following):
        assert all(56_000 < len(bundle.data) <= 65_536 for bundle in bundles[:-1])


HUGE = Record("d", 1, 0, 0, 0, extras=((4, "x" * 66_000),))


def test_a_record_too_large_for_any_bundle_is_a_declared_error_after_all_that_is_before_it() -> None:
    own, reader = writer(), Reader()
    bundle, rest = own.seal((Batch(A, (*records(2), HUGE, *records(1))),), now_ms=NOW_MS)
    assert contents(reader.read(bundle.data)[1][0]) == records(2)
    with pytest.raises(SealError, match="too large"):
        own.seal(rest, now_ms=NOW_MS)
    bundle = seal(own, Batch(A, records(1)))
    read, (part,) = reader.read(bundle.data)
    assert (read.no, part.first) == (1, 2)
