"""The book of what receipts cover: sans-IO, and small enough to be written whole."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress

import cbor2

from gateway.errors import AnotherStoreError, MalformedError, ReceiptError
from gateway.model import ReceiptRange, StoreId
from gateway.outbox.framing import (
    Frame,
    FrameKind,
    StoreNote,
    StoreState,
    decode_items,
    encode_frame,
    read_state,
    scan,
    state_items,
)

_TAKE_OVER_S = 900.0
_KNOCK_BREAK_S = 150.0
"""Longer than any gateway that is online sends nothing, its heartbeat included."""
_OVERTAKEN = 64
_KNOWN_STORES = 4
"""How many that do not count are remembered."""


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


class _Store:
    """What one store has said."""

    def __init__(self, incarnation: int, counter: int) -> None:
        self.incarnation = incarnation
        self.counter = counter
        self.covered: dict[bytes, Ranges] = {}
        self.newest: dict[bytes, tuple[int, bytes]] = {}

    def holes(self, chain: bytes, first: int, last: int) -> Iterator[tuple[int, int]]:
        covered = self.covered.get(chain)
        return iter(((first, last),)) if covered is None else covered.holes(first, last)


class Receipted:
    """Which bundles the stores that count have for good, by chain.

    As many as are required must have a bundle before it is receipted. The first ones heard count. Another one
    takes the place of one that is gone: it must have spoken for 15 minutes without a break in which the other did not.
    What a store said is remembered when another takes its place, and counts again if it comes back.
    """

    def __init__(self) -> None:
        self._required = 1
        self._stores: dict[bytes, _Store] = {}
        self._counting: list[bytes] = []
        self.changes = 0
        """Grows whenever what counts is another store, or another incarnation of one."""
        self._heard_s: dict[bytes, float] = {}
        self._knocking_s: dict[bytes, tuple[float, float]] = {}
        """Of the stores that do not count: since when they speak without a break, and when they last did."""

    def require(self, stores: int) -> None:
        """Set how many stores must have a bundle."""
        self._required = stores
        self._counting = self._counting[:stores]

    @property
    def state(self) -> StoreState:
        """Whose receipts count, for the snapshot of a segment."""
        notes = {
            store: StoreNote(StoreId(store, each.incarnation), each.counter) for store, each in self._stores.items()
        }
        former = tuple(note for store, note in notes.items() if store not in self._counting)
        return StoreState(self.changes, tuple(notes[store] for store in self._counting), former)

    def admit(self, store: StoreId, counter: int, now_s: float) -> bool:
        """Judge who speaks, at a time of any monotonic clock; return True if a store asks for everything again.

        A counter may be a little older than the newest: receipts of two receivers of one store overtake each other.
        Raises `ReceiptError` for a receipt of the past, `AnotherStoreError` for a store beside those that count.
        """
        known = self._stores.get(store.store)
        if known is not None and store.incarnation < known.incarnation:
            raise ReceiptError(f"incarnation {store.incarnation} is older than {known.incarnation}")
        same = known is not None and store.incarnation == known.incarnation
        if known is not None and same and counter < known.counter - _OVERTAKEN:
            raise ReceiptError(f"receipt {counter} is older than {known.counter}, which was seen before")
        joins = store.store not in self._counting
        alone = not self._counting
        if joins:
            self._make_room_for(store.store, now_s)
            self._counting.append(store.store)
        if joins or not same:
            self.changes += 1
        self._heard_s[store.store] = now_s
        if known is not None and same:
            known.counter = max(known.counter, counter)
        else:
            self._stores[store.store] = _Store(store.incarnation, counter)
        return not alone if joins else not same

    def _make_room_for(self, store: bytes, now_s: float) -> None:
        """Let the store go that was silent longest, if `store` may take its place. Raises `AnotherStoreError`."""
        if len(self._counting) < self._required:
            return
        since_s, last_s = self._knocking_s.pop(store, (now_s, now_s))
        if now_s - last_s > _KNOCK_BREAK_S:
            since_s = now_s
        absent = min(self._counting, key=lambda each: self._heard_s.get(each, since_s))
        if now_s - max(since_s, self._heard_s.get(absent, since_s)) < _TAKE_OVER_S:
            self._knocking_s[store] = since_s, now_s
            _drop_oldest(self._knocking_s, _KNOWN_STORES)
            raise AnotherStoreError(
                f"store {store.hex()} speaks beside {absent.hex()}, which counts: is a second receiver running, or"
                f" was the database replaced? It counts once the other has been silent for {_TAKE_OVER_S / 60:.0f} min"
            )
        self._counting.remove(absent)
        former = [each for each in self._stores if each not in self._counting]
        for each in former[:-_KNOWN_STORES]:
            del self._stores[each]

    def believe(self, state: StoreState) -> None:
        """Take what a segment says of the stores where it is newer than this book, which may be lost or old."""
        for note in (*state.former, *state.counting):
            known = self._stores.get(note.store.store)
            if known is None or note.store.incarnation > known.incarnation:
                self._stores[note.store.store] = _Store(note.store.incarnation, note.counter)
            elif note.store.incarnation == known.incarnation:
                known.counter = max(known.counter, note.counter)
        if state.changes > self.changes:
            self.changes = state.changes
            self._counting = [note.store.store for note in state.counting]

    def cover(self, store: StoreId, received: ReceiptRange) -> None:
        """Note that a store, which was admitted, has the bundles of a range."""
        said = self._stores[store.store]
        said.covered.setdefault(received.chain, Ranges()).add(received.first, received.last)
        if received.last >= said.newest.get(received.chain, (-1, b""))[0]:
            said.newest[received.chain] = received.last, received.hash

    def holes(self, chain: bytes, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges within first..last that not all required stores have, ascending."""
        counting = [self._stores[store] for store in self._counting]
        if len(counting) < self._required:
            return iter(((first, last),))
        if len(counting) == 1:
            return counting[0].holes(chain, first, last)
        together = Ranges()
        for store in counting:
            for hole in store.holes(chain, first, last):
                together.add(*hole)
        return iter(together)

    def covered(self, named: ReceiptRange) -> Iterator[ReceiptRange]:
        """Yield the pieces of a range that all required stores have."""
        first = named.first
        for low, high in (*self.holes(named.chain, named.first, named.last), (named.last + 1, named.last + 1)):
            if first < low:
                yield ReceiptRange(named.chain, first, low - 1, named.hash)
            first = high + 1

    def hash_of(self, chain: bytes, no: int) -> bytes | None:
        """Return the hash of the newest bundle of `chain` that a store has if `no` is that one, also when deleted."""
        for store in self._counting:
            newest, digest = self._stores[store].newest.get(chain, (None, None))
            if newest == no:
                return digest
        return None

    def forget(self, chain: bytes) -> None:
        """Drop a chain of which nothing is left."""
        for store in self._stores.values():
            store.covered.pop(chain, None)
            store.newest.pop(chain, None)

    def encode(self) -> bytes:
        """Return the book as a file: one frame."""
        stores = [
            [store, [[chain, [*each.newest[chain]], [[*r] for r in ranges]] for chain, ranges in each.covered.items()]]
            for store, each in self._stores.items()
        ]
        return encode_frame(FrameKind.RECEIPTED, b"", cbor2.dumps([1, state_items(self.state), stores]), 0)

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
            case [1, state, [*stores], *_]:
                self.believe(read_state(state))
            case _:
                raise MalformedError("the book of receipts has an unknown form")
        for items in stores:
            match items:
                case [bytes(store), [*chains], *_] if store in self._stores:
                    for chain in chains:
                        _read_chain(self._stores[store], chain)
                case _:
                    raise MalformedError("what a store receipted has an unknown form")


def _read_chain(store: _Store, items: object) -> None:
    match items:
        case [bytes(chain), [int(no), bytes(digest)], [*ranges]]:
            covered = store.covered[chain] = Ranges()
            store.newest[chain] = no, digest
        case _:
            raise MalformedError("a receipted chain has an unknown form")
    for item in ranges:
        match item:
            case [int(first), int(last)] if first <= last:
                covered.add(first, last)
            case _:
                raise MalformedError("a receipted range has an unknown form")


def _drop_oldest(entries: dict[bytes, tuple[float, float]], limit: int) -> None:
    while len(entries) > limit:
        del entries[next(iter(entries))]
