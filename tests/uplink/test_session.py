"""What a session lets out, whatever the broker, the receiver and the clock do."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest

from gateway.errors import ConnectionLostError, ConnectionRefusedByBrokerError
from gateway.model import Lane, Link, ReceiptRange, Refusal
from gateway.uplink.session import Session

ACK_TIMEOUT_S = 10.0
RECEIPT_TIMEOUT_S = 30.0
CHAIN, URGENT_CHAIN = b"c" * 16, b"u" * 16


@dataclass(frozen=True)
class Bundle:
    position: int
    link: Link
    size: int = 1000
    lane: Lane = Lane.DATA


def urgent(number: int) -> Bundle:
    return Bundle((1 << 48) + number, Link(URGENT_CHAIN, number, b""), lane=Lane.URGENT)


def bundles(count: int, *, first: int = 0, size: int = 1000) -> list[Bundle]:
    return [Bundle(n, Link(CHAIN, n, b""), size) for n in range(first, first + count)]


def session(
    *,
    window: int = 4,
    share: float = 0.5,
    receive_maximum: int = 65_535,
    maximum_packet_size: int = 1 << 20,
    live_after: int | None = -1,
) -> Session[Bundle]:
    return Session(
        window=window,
        backlog_share=share,
        live_after=live_after,
        receive_maximum=receive_maximum,
        maximum_packet_size=maximum_packet_size,
        ack_timeout_s=ACK_TIMEOUT_S,
        receipt_timeout_s=RECEIPT_TIMEOUT_S,
    )


def covered(first: int, last: int) -> list[ReceiptRange]:
    return [ReceiptRange(CHAIN, first, last, b"")]


def take(flow: Session[Bundle], unreceipted: Sequence[Bundle], now: float) -> list[Bundle]:
    def offer(lane: Lane, after: int, limit: int) -> list[Bundle]:
        return [bundle for bundle in unreceipted if bundle.lane is lane and bundle.position > after][:limit]

    return flow.take(offer, now)


def positions(chosen: Iterable[Bundle]) -> list[int]:
    return [bundle.position for bundle in chosen]


def test_the_window_is_filled_in_order_and_a_puback_opens_it() -> None:
    flow = session(window=2)
    assert positions(take(flow, bundles(5), 0.0)) == [0, 1]
    assert take(flow, bundles(5), 0.0) == []
    assert flow.acknowledged(0, 0, 0.5) == 0.5
    assert positions(take(flow, bundles(3, first=2), 0.5)) == [2]


def test_the_brokers_receive_maximum_limits_the_window() -> None:
    assert len(take(session(window=8, receive_maximum=3), bundles(5), 0.0)) == 3


def test_publishing_never_runs_more_than_eight_windows_ahead_of_receipts() -> None:
    flow = session(window=2)
    sent = 0
    while chosen := take(flow, bundles(2, first=sent), 0.0):
        sent += len(chosen)
        for bundle in chosen:
            flow.acknowledged(bundle.position, 0, 0.0)
    assert sent == flow.under_way == 16
    flow.receipted(covered(0, 0), 0.0)
    assert positions(take(flow, bundles(20)[1:], 0.0)) == [16]


def test_a_bundle_beyond_the_brokers_packet_size_is_parked_and_the_next_goes_out() -> None:
    flow = session(maximum_packet_size=1256)
    small, big = Bundle(0, Link(CHAIN, 0, b""), 1000), Bundle(1, Link(CHAIN, 1, b""), 1001)
    assert positions(take(flow, [small, big, *bundles(1, first=2)], 0.0)) == [0, 2]
    assert flow.parked == {1: "0x95"}


@pytest.mark.parametrize("code", [0x80, 0x83, 0x88, 0x89, 0x93, 0x96, 0x97])
def test_a_refusal_for_now_ends_the_connection(code: int) -> None:
    flow = session()
    take(flow, bundles(1), 0.0)
    with pytest.raises(ConnectionRefusedByBrokerError, match=f"{code:#x}"):
        flow.acknowledged(0, code, 1.0)


@pytest.mark.parametrize("code", [0x87, 0x90, 0x99])
def test_a_refusal_for_good_parks_the_bundle_for_this_connection(code: int) -> None:
    flow = session()
    take(flow, bundles(2), 0.0)
    flow.acknowledged(0, code, 1.0)
    assert flow.parked == {0: f"{code:#x}"}
    flow.acknowledged(1, 0, 1.0)
    flow.restart(2.0)
    assert positions(take(flow, bundles(2), 2.0)) == [1]


def test_no_matching_subscribers_is_an_acknowledgement() -> None:
    flow = session()
    take(flow, bundles(1), 0.0)
    flow.acknowledged(0, 0x10, 1.0)
    assert flow.parked == {}


def test_silence_of_the_broker_ends_the_connection_but_only_while_something_is_in_flight() -> None:
    flow = session()
    assert flow.deadline_s is None
    assert not flow.check(1e6)
    take(flow, bundles(2), 1e6)
    assert flow.deadline_s == 1e6 + ACK_TIMEOUT_S
    flow.acknowledged(0, 0, 1e6 + 9)
    assert not flow.check(1e6 + ACK_TIMEOUT_S)
    with pytest.raises(ConnectionLostError, match="no acknowledgement"):
        flow.check(1e6 + 9 + ACK_TIMEOUT_S)


def test_what_is_not_receipted_in_time_is_sent_again_from_the_oldest_on() -> None:
    flow = session()
    for bundle in take(flow, bundles(3), 0.0):
        flow.acknowledged(bundle.position, 0, 1.0)
    assert flow.receipted(covered(1, 1), 2.0) == [2.0]
    assert not flow.check(RECEIPT_TIMEOUT_S - 0.1)
    assert flow.check(RECEIPT_TIMEOUT_S)
    left = [bundle for bundle in bundles(3) if bundle.position != 1]
    assert positions(take(flow, left, RECEIPT_TIMEOUT_S)) == [0, 2]


def test_patience_with_repetitions_doubles_while_nobody_answers_and_returns_with_a_receipt() -> None:
    flow = session(window=1)
    waits = []
    now = 0.0
    for _ in range(7):
        take(flow, bundles(1), now)
        flow.acknowledged(0, 0, now)
        assert flow.deadline_s is not None
        waits.append(flow.deadline_s - now)
        now = flow.deadline_s
        assert flow.check(now)
    assert waits == [30, 60, 120, 240, 480, 480, 480]
    flow.receipted((), now)
    take(flow, bundles(1), now)
    flow.acknowledged(0, 0, now)
    assert flow.deadline_s == now + 2 * RECEIPT_TIMEOUT_S


def test_while_nobody_answers_live_bundles_go_out_once_each_and_repetitions_one_at_a_time() -> None:
    flow = session(window=4)
    stored: list[Bundle] = []
    published: list[int] = []
    for now in map(float, range(0, 7200, 5)):
        stored += bundles(1, first=len(stored))
        flow.check(now)
        for bundle in take(flow, stored, now):
            published.append(bundle.position)
            flow.acknowledged(bundle.position, 0, now)
    repeated = len(published) - len(set(published))
    assert set(published) == set(range(1440))
    assert 10 <= repeated <= 20


def test_what_is_overdue_comes_at_full_speed_once_somebody_answers_again() -> None:
    flow = session(window=4)
    for bundle in take(flow, bundles(4), 0.0):
        flow.acknowledged(bundle.position, 0, 0.0)
    flow.check(RECEIPT_TIMEOUT_S)
    now = RECEIPT_TIMEOUT_S
    assert len(take(flow, bundles(4), now)) == 1
    flow.acknowledged(0, 0, now)
    assert take(flow, bundles(4), now) == []
    flow.receipted(covered(0, 0), now)
    assert positions(take(flow, bundles(4)[1:], now)) == [1, 2]


def test_bundles_that_no_receiver_ever_answers_hold_up_nothing_for_good() -> None:
    flow = session()
    mute, stored = range(40), bundles(60)
    times_sent = dict.fromkeys(range(60), 0)
    receipted: dict[int, float] = {}
    for now in map(float, range(7200)):
        flow.check(now)
        while chosen := take(flow, [each for each in stored if each.position not in receipted], now):
            for bundle in chosen:
                times_sent[bundle.position] += 1
                flow.acknowledged(bundle.position, 0, now)
                if bundle.position not in mute:
                    receipted[bundle.position] = now
                    flow.receipted(covered(bundle.position, bundle.position), now)
        if now % RECEIPT_TIMEOUT_S == 0:
            stored += bundles(1, first=len(stored))
            times_sent[stored[-1].position] = 0
    assert receipted.keys() == {bundle.position for bundle in stored[40:]}
    assert all(receipted[position] <= 3 * RECEIPT_TIMEOUT_S for position in range(40, 60))
    assert max(receipted[position] - RECEIPT_TIMEOUT_S * (position - 60) for position in range(100, 280)) <= 1
    assert {times_sent[position] for position in mute} <= set(range(8, 22))
    assert all(times_sent[position] == 1 for position in receipted)


def test_what_became_overdue_for_lack_of_a_receiver_goes_as_fast_as_it_answers_again() -> None:
    flow = session()
    stored = bundles(200)
    now = 0.0
    for _ in range(10):
        flow.check(now)
        while chosen := take(flow, stored, now):
            for bundle in chosen:
                flow.acknowledged(bundle.position, 0, now)
        now = flow.deadline_s or now
    flow.check(now)
    while chosen := take(flow, stored, now):
        for bundle in chosen:
            flow.acknowledged(bundle.position, 0, now)
            flow.receipted(covered(bundle.position, bundle.position), now)
            stored.remove(bundle)
    flow.check(now + 2 * RECEIPT_TIMEOUT_S)
    while chosen := take(flow, stored, now):
        for bundle in chosen:
            flow.acknowledged(bundle.position, 0, now)
            stored.remove(bundle)
    assert stored == []


def test_what_is_in_flight_is_not_published_twice_at_once() -> None:
    flow = session(window=2)
    take(flow, bundles(2), 0.0)
    flow.acknowledged(0, 0, 1.0)
    flow.restart(1.0)
    assert positions(take(flow, bundles(2), 1.0)) == [0]


def test_what_the_receiver_refuses_is_parked_and_not_sent_again() -> None:
    flow = session()
    for bundle in take(flow, bundles(2), 0.0):
        flow.acknowledged(bundle.position, 0, 0.0)
    flow.refused([Refusal(CHAIN, 0, "malformed"), Refusal(b"x" * 16, 1, "malformed")])
    assert flow.parked == {0: "malformed"}
    assert flow.check(RECEIPT_TIMEOUT_S)
    assert positions(take(flow, bundles(2), RECEIPT_TIMEOUT_S)) == [1]


def test_a_bundle_that_could_not_be_read_gives_its_place_in_the_window_back() -> None:
    flow = session(window=1)
    take(flow, bundles(1), 0.0)
    flow.withdraw(0, "outbox-damaged")
    assert (flow.in_flight, flow.parked) == (0, {0: "outbox-damaged"})
    assert positions(take(flow, bundles(2), 0.0)) == [1]


def test_urgent_bundles_go_before_live_ones() -> None:
    flow = session(window=2)
    stored = [*bundles(3), urgent(0)]
    assert positions(take(flow, stored, 0.0)) == [urgent(0).position, 0]
    flow.acknowledged(0, 0, 0.0)
    assert positions(take(flow, [*stored, urgent(1)], 0.0)) == [urgent(1).position]


def test_an_overdue_urgent_bundle_goes_before_live_ones_again() -> None:
    flow = session(window=1)
    take(flow, [urgent(0)], 0.0)
    flow.acknowledged(urgent(0).position, 0, 0.0)
    flow.check(RECEIPT_TIMEOUT_S)
    assert positions(take(flow, [*bundles(3), urgent(0)], RECEIPT_TIMEOUT_S)) == [urgent(0).position]


def test_a_backlog_goes_in_order_and_takes_its_share_of_the_window_until_it_is_known_what_is_live() -> None:
    flow = session(window=4, live_after=None)
    assert positions(take(flow, bundles(50), 0.0)) == [0, 1]
    assert flow.behind(49) == float("inf")
    flow.acknowledged(0, 0, 0.0)
    assert take(flow, bundles(50), 0.0) == []  # published, and not receipted
    flow.receipted(covered(0, 0), 0.0)
    assert positions(take(flow, bundles(50)[1:], 0.0)) == [2]


def test_live_bundles_overtake_the_backlog() -> None:
    flow = session(window=4, live_after=None)
    take(flow, bundles(50), 0.0)
    flow.live_from(50)
    assert positions(take(flow, bundles(53), 0.0)) == [50, 51]
    for position in (0, 1, 50, 51):
        flow.acknowledged(position, 0, 0.0)
    flow.receipted(covered(0, 1), 0.0)
    assert positions(take(flow, bundles(53)[2:], 0.0)) == [52, 2, 3]


def test_the_backlog_ends_where_live_begins() -> None:
    flow = session(window=4, live_after=None)
    flow.live_from(2)
    assert positions(take(flow, bundles(4), 0.0)) == [2, 3, 0, 1]
    assert flow.behind(3) == 0
    flow.receipted(covered(0, 3), 0.0)
    for position in range(4):
        flow.acknowledged(position, 0, 0.0)
    assert positions(take(flow, bundles(9)[4:], 0.0)) == [4, 5, 6, 7]


@pytest.mark.parametrize(("window", "share"), [(1, 0.5), (1, 0.1), (4, 0.5), (4, 0.25), (64, 0.1)])
def test_where_both_want_the_window_the_backlog_gets_its_share(window: int, share: float) -> None:
    flow = session(window=window, share=share, live_after=None)
    flow.live_from(1000)
    stored, backlog, live = bundles(3000), 0, 0
    for now in itertools.count():
        if backlog + live >= 1000:
            break
        for bundle in take(flow, stored, float(now)):
            flow.acknowledged(bundle.position, 0, float(now))
            flow.receipted(covered(bundle.position, bundle.position), float(now))
            backlog, live = backlog + (bundle.position < 1000), live + (bundle.position >= 1000)
    assert backlog / (backlog + live) == pytest.approx(share, abs=0.05)


def test_a_backlog_alone_is_held_up_by_nothing() -> None:
    flow = session(window=4, live_after=None)
    flow.live_from(300)
    stored = bundles(300)
    rounds = 0
    while chosen := take(flow, stored, 0.0):
        rounds += 1
        for bundle in chosen:
            flow.acknowledged(bundle.position, 0, 0.0)
            flow.receipted(covered(bundle.position, bundle.position), 0.0)
        stored = stored[len(chosen) :]
    assert (stored, rounds) == ([], 150)


def test_repetitions_leave_out_what_the_backlog_has_not_sent_yet() -> None:
    flow = session(window=4, live_after=None)
    flow.live_from(50)
    assert positions(take(flow, bundles(52), 0.0)) == [50, 51, 0, 1]
    for position in (0, 1, 50, 51):
        flow.acknowledged(position, 0, 0.0)
    flow.receipted((), 1.0)
    flow.check(RECEIPT_TIMEOUT_S)
    assert positions(take(flow, bundles(52), RECEIPT_TIMEOUT_S)) == [0, 1]
    for position in (0, 1):
        flow.acknowledged(position, 0, RECEIPT_TIMEOUT_S)
    assert positions(take(flow, bundles(52), RECEIPT_TIMEOUT_S)) == [50, 51]


def test_what_a_restored_store_lacks_is_offered_again_behind_the_live() -> None:
    flow = session(window=4)
    take(flow, bundles(4), 0.0)
    for position in range(4):
        flow.acknowledged(position, 0, 0.0)
    flow.restart(0.0)
    assert positions(take(flow, bundles(6), 0.0)) == [0, 1]
    flow.live_from(4)
    assert positions(take(flow, bundles(6), 0.0)) == [4, 5]


def test_live_bundles_that_fell_behind_become_backlog() -> None:
    flow = session(window=2)
    take(flow, bundles(2), 0.0)
    flow.live_from(40)
    for position in (0, 1):
        flow.acknowledged(position, 0, 0.0)
    assert positions(take(flow, bundles(41), 0.0)) == [40, 2]


def test_what_was_refused_for_good_is_offered_again_when_asked() -> None:
    flow = session()
    take(flow, bundles(2), 0.0)
    flow.acknowledged(0, 0x87, 0.0)
    flow.acknowledged(1, 0, 0.0)
    assert take(flow, bundles(2), 0.0) == []
    flow.unpark()
    assert positions(take(flow, bundles(2), 0.0)) == [0]
