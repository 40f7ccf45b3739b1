"""The book of what receipts cover: sans-IO, and small enough to be written whole."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import cbor2

from gateway.errors import MalformedError, ReceiptError
from gateway.model import ReceiptRange, StoreId
from gateway.outbox.framing import (
    Frame,
    FrameKind,
    StoreState,
    decode_items,
    encode_frame,
    read_state,
    scan,
    state_items,
)


class Ranges:
    """A set of integers, kept as disjoint closed ranges in ascending order."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def add(self, first: int, last: int) -> None:
        """Take in first..last; ranges that touch become one."""
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def holes(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges within first..last that are not in the set, ascending."""
        for at in range(bisect_left(self._lasts, first), len(self._firsts)):
            if self._firsts[at] > last:
                break
            if first < self._firsts[at]:
                yield first, self._firsts[at] - 1
            first = self._lasts[at] + 1
        if first <= last:
            yield first, last


class Receipted:
    """Which bundles a store has for good, by chain, and which store that is."""

    def __init__(self, state: StoreState | None = None) -> None:
        self.state = state or StoreState()
        self._covered: dict[bytes, Ranges] = {}
        self._newest: dict[bytes, tuple[int, bytes]] = {}

    def admit(self, store: StoreId, counter: int) -> bool:
        """Judge who speaks; return True if a store restored or new asks for everything again.

        Raises `ReceiptError` for a receipt older than one seen, or of a store that was replaced.
        """
        known = self.state.store
        if known is None or known == store:
            if counter < self.state.counter:
                raise ReceiptError(f"receipt {counter} is older than {self.state.counter}, which was seen before")
            self.state = replace(self.state, store=store, counter=counter)
            return False
        if store.store in self.state.retired:
            raise ReceiptError(f"store {store.store.hex()} was replaced by {known.store.hex()} and speaks again")
        retired = self.state.retired
        if store.store != known.store:
            retired += (known.store,)
        elif store.incarnation < known.incarnation:
            raise ReceiptError(f"incarnation {store.incarnation} is older than {known.incarnation}")
        self.state = StoreState(store, counter, retired)
        self._clear()
        return True

    def believe(self, state: StoreState) -> None:
        """Take what a segment says of the store where it is newer than this book, which may be lost or old."""
        if _age(state) > _age(self.state):
            if state.store != self.state.store:
                self._clear()
            self.state = state

    def cover(self, received: ReceiptRange) -> None:
        """Note that the bundles of a range are received."""
        self._covered.setdefault(received.chain, Ranges()).add(received.first, received.last)
        if received.last >= self._newest.get(received.chain, (-1, b""))[0]:
            self._newest[received.chain] = received.last, received.hash

    def holes(self, chain: bytes, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges within first..last that no receipt covers, ascending."""
        covered = self._covered.get(chain)
        return iter(((first, last),)) if covered is None else covered.holes(first, last)

    def hash_of(self, chain: bytes, no: int) -> bytes | None:
        """Return the hash of the newest receipted bundle of `chain` if `no` is that one, also when it is deleted."""
        newest, digest = self._newest.get(chain, (None, None))
        return digest if newest == no else None

    def forget(self, chain: bytes) -> None:
        """Drop a chain of which nothing is left."""
        self._covered.pop(chain, None)
        self._newest.pop(chain, None)

    def _clear(self) -> None:
        self._covered.clear()
        self._newest.clear()

    def encode(self) -> bytes:
        """Return the book as a file: one frame."""
        chains = [[chain, [*self._newest[chain]], [[*r] for r in ranges]] for chain, ranges in self._covered.items()]
        return encode_frame(FrameKind.RECEIPTED, b"", cbor2.dumps([1, state_items(self.state), chains]), 0)

    @classmethod
    def decode(cls, data: bytes) -> "Receipted":
        """Read what `encode` wrote; a damaged book is an empty one, which costs redeliveries and nothing else."""
        book = cls()
        frame = next(scan(data), None)
        if isinstance(frame, Frame) and frame.kind == FrameKind.RECEIPTED:
            with suppress(MalformedError):
                book._read_book(frame.trailer)
                return book
        return cls()

    def _read_book(self, data: bytes) -> None:
        match decode_items(data):
            case [1, state, [*chains], *_]:
                self.state = read_state(state)
                for chain in chains:
                    self._read_chain(chain)
            case _:
                raise MalformedError("the book of receipts has an unknown form")

    def _read_chain(self, items: object) -> None:
        match items:
            case [bytes(chain), [int(no), bytes(digest)], [*ranges]]:
                covered = self._covered[chain] = Ranges()
                self._newest[chain] = no, digest
            case _:
                raise MalformedError("a receipted chain has an unknown form")
        for item in ranges:
            match item:
                case [int(first), int(last)] if first <= last:
                    covered.add(first, last)
                case _:
                    raise MalformedError("a receipted range has an unknown form")


def _age(state: StoreState) -> tuple[int, int, int]:
    return len(state.retired), state.store.incarnation if state.store else -1, state.counter
