"""A transfer is complete only if the wearable says so and sent what it announced, whatever else it does."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble.racp import Transfer
from gateway.errors import ProcedureError

TIMEOUT_S = 30.0

COUNT_ALL = bytes.fromhex("0401")
REPORT_ALL = bytes.fromhex("0101")
ABORT = bytes.fromhex("0300")
SUCCESS = bytes.fromhex("06000101")
NO_RECORDS_TO_COUNT = bytes.fromhex("06000406")
BUSY = bytes.fromhex("0600010a")


def number(count: int) -> bytes:
    return struct.pack("<BBH", 5, 0, count)


def reporting(count: int, *, first: int | None = None) -> Transfer:
    transfer = Transfer(first=first, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    assert transfer.indicated(number(count), 0.0) is not None
    return transfer


def succeed(transfer: Transfer, count: int) -> None:
    assert transfer.indicated(SUCCESS, 1.0) == COUNT_ALL
    assert transfer.indicated(number(count), 1.0) is None


def test_a_record_made_meanwhile_does_not_stand_in_for_one_that_is_missing() -> None:
    transfer = reporting(3)
    for key in ("first", "second", "made meanwhile"):
        transfer.recorded(key, 1.0)
    succeed(transfer, 4)
    with pytest.raises(ProcedureError, match="announced 4 records and sent 3"):
        transfer.check()


def test_a_store_that_forgot_its_oldest_record_meanwhile_is_complete() -> None:
    transfer = reporting(3)
    for key in range(4):
        transfer.recorded(key, 1.0)
    succeed(transfer, 3)
    transfer.check()


def test_a_wearable_that_does_not_count_again_is_not_complete() -> None:
    transfer = reporting(1)
    transfer.recorded(0, 1.0)
    transfer.indicated(SUCCESS, 1.0)
    transfer.indicated(bytes.fromhex("0600040a"), 1.0)
    with pytest.raises(ProcedureError, match="count its records again"):
        transfer.check()


@pytest.mark.parametrize("code", [3, 4, 5, 9])
@pytest.mark.parametrize("opcode", [1, 4])
def test_a_wearable_that_cannot_select_by_number_is_to_be_asked_for_all(opcode: int, code: int) -> None:
    transfer = Transfer(first=7, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    if opcode == 1:
        transfer.indicated(number(1), 0.0)
    transfer.indicated(bytes([6, 0, opcode, code]), 0.0)
    assert transfer.ended
    assert transfer.cannot_select
    with pytest.raises(ProcedureError):
        transfer.check()


def test_asks_for_the_number_then_for_the_records() -> None:
    transfer = Transfer(first=None, timeout_s=TIMEOUT_S)
    assert transfer.begin(0.0) == COUNT_ALL
    assert transfer.indicated(number(1), 0.0) == REPORT_ALL


def test_asks_from_the_first_wanted_sequence_on() -> None:
    transfer = Transfer(first=0x1234, timeout_s=TIMEOUT_S)
    assert transfer.begin(0.0) == bytes.fromhex("0403013412")
    assert transfer.indicated(number(1), 0.0) == bytes.fromhex("0103013412")


@pytest.mark.parametrize("answer", [number(0), NO_RECORDS_TO_COUNT])
def test_nothing_stored_is_complete_at_once(answer: bytes) -> None:
    transfer = Transfer(first=None, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    assert transfer.indicated(answer, 0.0) is None
    transfer.check()
    assert transfer.count == 0


@given(announced=st.integers(1, 40), sent=st.integers(0, 60))
def test_complete_if_and_only_if_all_announced_records_came(announced: int, sent: int) -> None:
    transfer = reporting(announced)
    for key in range(sent):
        transfer.recorded(key, 1.0)
    succeed(transfer, announced)
    assert transfer.ended
    if sent >= announced:
        transfer.check()
    else:
        with pytest.raises(ProcedureError, match=f"announced {announced} records and sent {sent}"):
            transfer.check()


def test_one_record_sent_twice_counts_once() -> None:
    transfer = reporting(2)
    transfer.recorded("same", 1.0)
    transfer.recorded("same", 1.0)
    succeed(transfer, 2)
    with pytest.raises(ProcedureError):
        transfer.check()


@given(code=st.integers(0, 255).filter(lambda code: code != 1))
def test_no_other_response_code_passes_as_complete(code: int) -> None:
    transfer = reporting(1)
    transfer.recorded(0, 1.0)
    transfer.indicated(bytes([6, 0, 1, code]), 1.0)
    with pytest.raises(ProcedureError):
        transfer.check()


@given(code=st.integers(0, 255).filter(lambda code: code != 6))
def test_a_wearable_that_will_not_count_is_not_complete(code: int) -> None:
    transfer = Transfer(first=None, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    transfer.indicated(bytes([6, 0, 4, code]), 1.0)
    with pytest.raises(ProcedureError):
        transfer.check()


def test_a_wearable_that_never_answers_is_told_to_abort_and_given_up() -> None:
    transfer = Transfer(first=None, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    assert transfer.expired(TIMEOUT_S - 1) is None
    assert transfer.expired(TIMEOUT_S) == ABORT
    assert not transfer.ended
    assert transfer.expired(transfer.deadline) is None
    with pytest.raises(ProcedureError, match="silent"):
        transfer.check()


def test_each_record_gives_it_more_time() -> None:
    transfer = reporting(2)
    transfer.recorded(0, 20.0)
    assert transfer.expired(40.0) is None
    assert transfer.expired(50.0) == ABORT


def test_an_abort_that_is_answered_ends_the_transfer_without_success() -> None:
    transfer = reporting(1)
    transfer.expired(TIMEOUT_S)
    transfer.indicated(bytes.fromhex("06000301"), TIMEOUT_S)
    assert transfer.ended
    with pytest.raises(ProcedureError):
        transfer.check()


def test_a_success_after_the_abort_does_not_count() -> None:
    transfer = reporting(1)
    transfer.expired(TIMEOUT_S)
    transfer.recorded(0, TIMEOUT_S)
    transfer.indicated(SUCCESS, TIMEOUT_S)
    assert not transfer.ended


def test_a_wearable_that_never_stops_is_aborted() -> None:
    transfer = reporting(10)
    answers = [transfer.recorded(key, 1.0) for key in range(1000)]
    assert answers.count(ABORT) == 1


@pytest.mark.parametrize("opcode", [2, 3, 4, 7, 8])
def test_answers_to_other_requests_are_not_an_answer(opcode: int) -> None:
    transfer = reporting(1)
    transfer.indicated(bytes([6, 0, opcode, 1]), 1.0)
    assert not transfer.ended


def test_a_link_that_ends_in_the_middle_leaves_it_incomplete() -> None:
    transfer = reporting(2)
    transfer.recorded(0, 1.0)
    with pytest.raises(ProcedureError, match="cut short"):
        transfer.check()


@given(values=st.lists(st.binary(max_size=8), max_size=20))
def test_any_indications_end_in_a_state_that_needs_a_success_to_pass(values: list[bytes]) -> None:
    transfer = Transfer(first=None, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    for value in values:
        transfer.indicated(value, 1.0)
    if not any(value[:1] in {b"\x05", b"\x06"} for value in values):
        with pytest.raises(ProcedureError):
            transfer.check()


@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.just("record"), st.integers(0, 5)),
            st.tuples(st.just("count"), st.integers(0, 5)),
            st.tuples(st.just("response"), st.tuples(st.sampled_from([1, 3, 4, 2]), st.integers(0, 10))),
            st.tuples(st.just("silence"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_passing_the_check_means_success_was_said_and_the_announced_records_came(events: list) -> None:
    transfer = Transfer(first=None, timeout_s=TIMEOUT_S)
    transfer.begin(0.0)
    counts, records, succeeded = [], set(), False
    for now, (kind, value) in enumerate(events, 1):
        if transfer.ended:
            break
        match kind:
            case "record":
                transfer.recorded(value, now)
                records |= {value} if counts else set()
            case "count":
                transfer.indicated(number(value), now)
                counts += [value] if len(counts) <= succeeded else []
            case "response":
                transfer.indicated(bytes([6, 0, *value]), now)
                counts += [0] if value == (4, 6) and not counts else []
                succeeded |= value == (1, 1) and bool(counts)
            case "silence":
                transfer.expired(now + TIMEOUT_S)
    try:
        transfer.check()
    except ProcedureError:
        return
    assert counts == [0] or (len(counts) == 2 and len(records) >= max(counts))
