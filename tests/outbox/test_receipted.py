from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ReceiptError
from gateway.model import ReceiptRange, StoreId
from gateway.outbox.framing import StoreState
from gateway.outbox.receipted import Ranges, Receipted

A1, A2, B1 = StoreId(b"a", 1), StoreId(b"a", 2), StoreId(b"b", 1)
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
    book.admit(A1, 7)
    book.cover(ReceiptRange(CHAIN, 0, 3, HASH))
    book.cover(ReceiptRange(CHAIN, 6, 9, HASH))
    again = Receipted.decode(book.encode())
    assert again.state == book.state
    assert covered(again, 12) == {0, 1, 2, 3, 6, 7, 8, 9}
    assert again.hash_of(CHAIN, 9) == HASH


@given(st.binary() | st.just(Receipted().encode()), st.integers(0, 40))
def test_a_damaged_book_is_an_empty_one(data: bytes, at: int) -> None:
    spoilt = bytes(byte ^ (255 if index == at else 0) for index, byte in enumerate(data[: at + 1]))
    assert Receipted.decode(spoilt).state == StoreState()


def test_an_older_counter_or_incarnation_is_refused_and_the_same_again_is_not() -> None:
    book = Receipted()
    assert not book.admit(A2, 5)
    assert not book.admit(A2, 5)
    for store, counter in ((A2, 4), (A1, 99)):
        with pytest.raises(ReceiptError):
            book.admit(store, counter)
    assert book.state == StoreState(A2, 5)


def test_a_restored_store_asks_for_everything_again() -> None:
    book = Receipted()
    book.admit(A1, 5)
    book.cover(ReceiptRange(CHAIN, 0, 9, HASH))
    assert book.admit(A2, 0)
    assert covered(book, 9) == set()
    assert book.hash_of(CHAIN, 9) is None


def test_a_new_store_asks_for_everything_again_and_the_one_it_replaced_is_not_heard_any_more() -> None:
    book = Receipted()
    book.admit(A2, 5)
    assert book.admit(B1, 0)
    with pytest.raises(ReceiptError):
        Receipted.decode(book.encode()).admit(StoreId(b"a", 3), 6)


def test_a_segment_is_believed_where_it_knows_a_newer_store_than_the_book() -> None:
    book = Receipted()
    book.admit(A1, 5)
    book.cover(ReceiptRange(CHAIN, 0, 9, HASH))
    book.believe(StoreState(A1, 4))
    assert (book.state.counter, len(covered(book, 9))) == (5, 10)
    book.believe(StoreState(A2, 0))
    assert (book.state.store, covered(book, 9)) == (A2, set())
