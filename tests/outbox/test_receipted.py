from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AnotherStoreError, ReceiptError
from gateway.model import ReceiptRange, StoreId
from gateway.outbox.framing import StoreNote, StoreState
from gateway.outbox.receipted import Ranges, Receipted

A1, A2, B1 = StoreId(b"a", 1), StoreId(b"a", 2), StoreId(b"b", 1)
MINUTE = 60.0
CHAIN = b"c" * 16
HASH = b"h" * 32
pairs = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))


def covered(book: Receipted, last: int) -> set[int]:
    waiting = {no for first, end in book.holes(CHAIN, 0, last) for no in range(first, end + 1)}
    return set(range(last + 1)) - waiting


@given(st.lists(pairs), pairs)
def test_ranges_are_a_set_of_integers(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ranges, model = Ranges(), set[int]()
    for first, last in added:
        ranges.add(first, last)
        model |= set(range(first, last + 1))
    assert [no for first, last in ranges for no in range(first, last + 1)] == sorted(model)
    holes = [no for first, last in ranges.holes(*asked) for no in range(first, last + 1)]
    assert holes == sorted(set(range(asked[0], asked[1] + 1)) - model)


@given(st.lists(pairs))
def test_ranges_that_touch_become_one(added: list[tuple[int, int]]) -> None:
    ranges = Ranges()
    for first, last in added:
        ranges.add(first, last)
    kept = list(ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(kept))


def test_a_book_survives_as_a_file() -> None:
    book = Receipted()
    book.admit(A1, 7, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 3, HASH))
    book.cover(A1, ReceiptRange(CHAIN, 6, 9, HASH))
    again = Receipted.decode(book.encode())
    assert again.state == book.state
    assert covered(again, 12) == {0, 1, 2, 3, 6, 7, 8, 9}
    assert again.hash_of(CHAIN, 9) == HASH


@given(st.binary() | st.just(Receipted().encode()), st.integers(0, 40))
def test_a_damaged_book_is_an_empty_one(data: bytes, at: int) -> None:
    spoilt = bytes(byte ^ (255 if index == at else 0) for index, byte in enumerate(data[: at + 1]))
    assert Receipted.decode(spoilt).state == StoreState()


def counts(book: Receipted, *stores: StoreId) -> bool:
    return [note.store for note in book.state.counting] == [*stores]


def test_an_older_incarnation_or_a_much_older_counter_is_refused_and_the_same_again_is_not() -> None:
    book = Receipted()
    assert not book.admit(A2, 105, 0.0)
    assert not book.admit(A2, 105, 0.0)
    for store, counter in ((A2, 40), (A1, 999)):
        with pytest.raises(ReceiptError, match="older"):
            book.admit(store, counter, 0.0)
    assert book.state == StoreState(1, (StoreNote(A2, 105),))


def test_receipts_of_two_receivers_of_one_store_may_overtake_each_other() -> None:
    book = Receipted()
    for counter in (7, 9, 8, 10):
        assert not book.admit(A1, counter, 0.0)
    assert book.state.counting == (StoreNote(A1, 10),)


def test_a_restored_store_asks_for_everything_again() -> None:
    book = Receipted()
    book.admit(A1, 5, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    assert book.admit(A2, 0, 0.0)
    assert covered(book, 9) == set()
    assert book.hash_of(CHAIN, 9) is None


def speak(book: Receipted, start_s: float, *stores: StoreId, minutes: int) -> list[str]:
    """Every store in turn, every minute; what was refused."""
    refused = []
    for minute in range(minutes):
        for store in stores:
            try:
                book.admit(store, minute, start_s + minute * MINUTE)
            except AnotherStoreError as error:
                refused.append(str(error))
    return refused


def test_a_second_store_never_locks_out_the_one_that_speaks() -> None:
    book = Receipted()
    book.admit(A1, 0, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    refused = speak(book, 0.0, B1, A1, minutes=100)
    assert len(refused) == 100
    assert "is a second receiver running" in refused[0]
    assert counts(book, A1)
    assert covered(book, 9) == set(range(10))


def test_a_store_takes_the_place_of_one_that_is_gone_and_gets_everything() -> None:
    book = Receipted()
    book.admit(A1, 0, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    assert len(speak(book, 0.0, B1, minutes=15)) == 15
    assert counts(book, A1)
    assert book.admit(B1, 15, 15 * MINUTE)
    assert counts(book, B1)
    assert covered(book, 9) == set()


def test_a_store_that_comes_back_still_has_what_it_had() -> None:
    book = Receipted()
    book.admit(A1, 7, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    speak(book, 0.0, B1, minutes=16)
    book = Receipted.decode(book.encode())
    assert counts(book, B1)
    with pytest.raises(ReceiptError, match="beside"):
        book.admit(A1, 8, 1e6)
    speak(book, 1e6 + MINUTE, A1, minutes=16)
    assert counts(book, A1)
    assert covered(book, 9) == set(range(10))


def test_a_gateway_that_was_offline_itself_takes_nobodys_silence_for_an_end() -> None:
    book = Receipted()
    book.admit(A1, 0, 0.0)
    speak(book, 0.0, B1, minutes=10)
    with pytest.raises(AnotherStoreError):
        book.admit(B1, 11, 600 * MINUTE)
    assert counts(book, A1)


def test_two_required_stores_must_both_have_it() -> None:
    book = Receipted()
    book.require(2)
    assert not book.admit(A1, 0, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    assert covered(book, 12) == set()
    assert book.admit(B1, 0, 0.0)
    book.cover(B1, ReceiptRange(CHAIN, 4, 12, HASH))
    assert covered(book, 12) == set(range(4, 10))
    pieces = [(each.first, each.last) for each in book.covered(ReceiptRange(CHAIN, 0, 12, HASH))]
    assert pieces == [(4, 9)]
    with pytest.raises(AnotherStoreError):
        book.admit(StoreId(b"c", 1), 0, 0.0)


def test_when_one_store_is_enough_again_the_first_counts() -> None:
    book = Receipted()
    book.require(2)
    book.admit(A1, 0, 0.0)
    book.admit(B1, 0, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    again = Receipted.decode(book.encode())
    again.require(1)
    assert counts(again, A1)
    assert covered(again, 9) == set(range(10))


def test_a_segment_is_believed_where_it_knows_a_newer_store_than_the_book() -> None:
    book = Receipted()
    book.admit(A1, 5, 0.0)
    book.cover(A1, ReceiptRange(CHAIN, 0, 9, HASH))
    book.believe(StoreState(1, (StoreNote(A1, 4),)))
    assert (book.state.counting[0].counter, len(covered(book, 9))) == (5, 10)
    book.believe(StoreState(2, (StoreNote(A2, 0),)))
    assert counts(book, A2)
    assert covered(book, 9) == set()
