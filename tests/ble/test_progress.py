"""The cursor never passes a record that was not handed on, whatever links, transfers and meters do."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.ble.progress import Item, Numbering, Progress
from gateway.errors import ProcedureError
from gateway.model import Cursor

DEVICE = "F0:00:00:00:07:01"


def item(sequence: int, session: str = "s") -> Item:
    return Item((), sequence, session, (session, sequence))


class Meter(RuleBasedStateMachine):
    """A meter that counts its records, may be reset, and a gateway that connects now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Item] = []
        self.times = 0
        self.handed: set[tuple[str, int]] = set()
        self.durable: Cursor | None = None
        self.progress: Progress | None = None
        self.once: list[tuple[str, int]] = []

    @initialize(count=st.integers(0, 5))
    def fill(self, count: int) -> None:
        for _ in range(count):
            self._record()

    def _record(self) -> Item:
        self.times += 1
        sequence = self.records[-1].sequence + 1 if self.records else 0
        self.records.append(item(sequence, f"t{self.times:04}"))
        return self.records[-1]

    def _hand(self, taken: Item) -> None:
        identity = (taken.session, taken.sequence)
        self.handed.add(identity)
        self.once.append(identity)

    @precondition(lambda self: self.progress is None)
    @rule()
    def connect(self) -> None:
        self.progress = Progress(DEVICE, Numbering.COUNTER, self.durable, set())
        self.once = []

    @precondition(lambda self: self.progress is not None)
    @rule()
    def disconnect(self) -> None:
        self.durable, self.progress = self.progress.cursor, None

    @precondition(lambda self: self.progress is None)
    @rule(count=st.integers(0, 4))
    def reset_meter(self, count: int) -> None:
        self.records.clear()
        for _ in range(count):
            self._record()

    @rule()
    def measure(self) -> None:
        record = self._record()
        if self.progress and self.progress.fresh(record):
            self.progress.live(record)
            self._hand(record)

    @rule()
    def measure_unheard(self) -> None:
        self._record()

    @precondition(lambda self: self.progress is not None)
    @rule(lost=st.booleans())
    def transfer(self, *, lost: bool) -> None:
        while True:
            first = self.progress.begin("")
            wanted = [record for record in self.records if first is None or record.sequence >= first]
            if lost:
                wanted = wanted[: len(wanted) // 2]
            for record in wanted:
                if self.progress.fresh(record):
                    self._hand(record)
            if lost or self.progress.finish():
                return

    @invariant()
    def cursor_is_backed_by_everything_before_it(self) -> None:
        cursor = self.progress.cursor if self.progress else self.durable
        if cursor is None or not any(
            (r.session, r.sequence) == (cursor.session, cursor.sequence) for r in self.records
        ):
            return
        for record in self.records:
            if record.sequence <= cursor.sequence:
                assert (record.session, record.sequence) in self.handed

    @invariant()
    def a_complete_view_lacks_nothing(self) -> None:
        if self.progress and self.progress.complete and self.progress.cursor:
            cursor = self.progress.cursor
            assert {(r.session, r.sequence) for r in self.records if r.sequence <= cursor.sequence} <= self.handed

    @invariant()
    def no_record_is_handed_on_twice_in_one_connection(self) -> None:
        assert len(self.once) == len(set(self.once))


TestMeter = Meter.TestCase
TestMeter.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


def transfer(progress: Progress, *items: Item) -> bool:
    progress.begin("")
    for each in items:
        progress.fresh(each)
    return progress.finish()


def test_a_counter_that_has_wrapped_goes_on_from_its_newest_record() -> None:
    progress = Progress(DEVICE, Numbering.COUNTER, Cursor(DEVICE, "t7", 65534), set())
    assert transfer(progress, item(65534, "t7"), item(65535, "t8"), item(0, "t9"), item(1, "t91"))
    assert progress.cursor == Cursor(DEVICE, "t91", 1)
    assert progress.begin("") == 1


def test_a_counter_that_counts_backwards_is_always_read_whole() -> None:
    progress = Progress(DEVICE, Numbering.COUNTER, None, set())
    assert transfer(progress, item(7, "t3"), item(8, "t2"), item(9, "t1"))
    assert (progress.complete, progress.cursor) == (True, None)
    assert progress.begin("") is None


def test_a_live_count_that_goes_back_makes_everything_wanted() -> None:
    progress = complete(Numbering.COUNTER, 5, 6)
    assert progress.live(item(3)) is None
    assert progress.begin("") is None


def test_records_without_a_date_are_always_read_whole() -> None:
    progress = Progress(DEVICE, Numbering.COUNTER, Cursor(DEVICE, "~2026-11-24", 5), set())
    assert progress.begin("") is None


def test_a_device_that_cannot_select_is_read_whole_and_goes_on_from_the_cursor() -> None:
    progress = Progress(DEVICE, Numbering.OFFSET, Cursor(DEVICE, "s", 10), set())
    assert progress.begin("s", everything=True) is None
    assert [progress.fresh(item(sequence)) for sequence in (5, 10, 15)] == [True] * 3
    assert progress.finish()
    assert progress.cursor == Cursor(DEVICE, "s", 15)


def test_a_record_that_could_not_be_read_is_a_hole() -> None:
    progress = complete(Numbering.OFFSET, 5)
    progress.missed()
    assert progress.live(item(6)) is None


def complete(numbering: Numbering, *sequences: int) -> Progress:
    progress = Progress(DEVICE, numbering, None, set())
    assert progress.begin("s") is None
    for sequence in sequences:
        assert progress.fresh(item(sequence))
    assert progress.finish()
    return progress


def test_a_new_session_starts_from_its_first_record() -> None:
    progress = Progress(DEVICE, Numbering.OFFSET, Cursor(DEVICE, "old", 900), set())
    assert progress.begin("new") is None


def test_the_same_session_goes_on_from_the_cursors_minute_which_others_can_share() -> None:
    progress = Progress(DEVICE, Numbering.OFFSET, Cursor(DEVICE, "s", 900), set())
    assert progress.begin("s") == 900
    assert progress.fresh(item(900))


def test_a_hole_before_a_live_count_stops_the_cursor() -> None:
    progress = complete(Numbering.COUNTER, 1, 2)
    assert progress.live(item(4)) is None
    assert not progress.complete
    assert progress.cursor == Cursor(DEVICE, "s", 2)


def test_the_first_count_of_an_empty_meter_does_not_prove_that_none_came_before() -> None:
    progress = complete(Numbering.COUNTER)
    assert progress.live(item(1)) is None
    assert not progress.complete


def test_offsets_have_holes_by_nature_and_may_repeat() -> None:
    progress = complete(Numbering.OFFSET, 0, 5)
    assert progress.live(item(10)) == Cursor(DEVICE, "s", 10)
    assert progress.live(item(10)) == Cursor(DEVICE, "s", 10)


def test_offsets_that_go_back_are_a_new_session_and_not_believed() -> None:
    progress = complete(Numbering.OFFSET, 0, 5)
    progress.live(item(10))
    with pytest.raises(ProcedureError, match="started over"):
        progress.fresh(item(1))


def test_counts_wrap_at_sixteen_bits() -> None:
    progress = complete(Numbering.COUNTER, 65534, 65535)
    assert progress.live(item(0)) == Cursor(DEVICE, "s", 0)


def test_near_the_wrap_everything_is_asked_for() -> None:
    progress = Progress(DEVICE, Numbering.COUNTER, Cursor(DEVICE, "s", 65000), set())
    assert progress.begin("") is None


def test_what_is_not_stored_never_touches_the_cursor() -> None:
    progress = complete(Numbering.OFFSET, 3)
    live = Item(())
    assert progress.fresh(live)
    assert progress.fresh(live)
    assert progress.live(live) is None
