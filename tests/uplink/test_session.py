"""What a session lets out, whatever the broker, the receiver and the clock do."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import ConnectionLostError, ConnectionRefusedByBrokerError
from gateway.model import Link, ReceiptRange, Refusal
from gateway.uplink.session import Session

ACK_TIMEOUT_S = 10.0
RECEIPT_TIMEOUT_S = 30.0
CHAIN = b"c" * 16


@dataclass(frozen=True)
class Bundle:
    position: int
    link: Link
    size: int = 1000


def bundles(count: int, *, first: int = 0, size: int = 1000) -> list[Bundle]:
    return [Bundle(n, Link(CHAIN, n, b""), size) for n in range(first, first + count)]


def session(*, window: int = 4, receive_maximum: int = 65_535, maximum_packet_size: int = 1 << 20) -> Session[Bundle]:
    return Session(
        window=window,
        receive_maximum=receive_maximum,
        maximum_packet_size=maximum_packet_size,
        ack_timeout_s=ACK_TIMEOUT_S,
        receipt_timeout_s=RECEIPT_TIMEOUT_S,
    )


def covered(first: int, last: int) -> list[ReceiptRange]:
    return [ReceiptRange(CHAIN, first, last, b"")]


def take(flow: Session[Bundle], unreceipted: Sequence[Bundle], now: float) -> list[Bundle]:
    def offer(after: int, limit: int) -> list[Bundle]:
        return [bundle for bundle in unreceipted if bundle.position > after][:limit]

    return flow.take(offer, now)


def positions(chosen: list[Bundle]) -> list[int]:
    return [bundle.position for bundle in chosen]


def test_the_window_is_filled_in_order_and_a_puback_opens_it() -> None:
    flow = session(window=2)
    assert positions(take(flow, bundles(5), 0.0)) == [0, 1]
    assert flow.room == 0
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
    assert sent == flow.outstanding == 16
    flow.receipted(covered(0, 0), 0.0)
    assert flow.room == 1


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


def test_patience_doubles_while_nobody_answers_and_returns_with_a_receipt() -> None:
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
    take(flow, bundles(1), now)
    flow.receipted(covered(0, 0), now)
    flow.acknowledged(0, 0, now)
    take(flow, bundles(1, first=1), now)
    flow.acknowledged(1, 0, now)
    assert flow.deadline_s == now + RECEIPT_TIMEOUT_S


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
    assert (flow.room, flow.in_flight, flow.parked) == (1, 0, {0: "outbox-damaged"})


class AnyInterleaving(RuleBasedStateMachine):
    """An outbox, a broker, a receiver and a clock, in any order; several connections, several chains.

    The receiver never says a word about the bundles in `mute`.
    """

    @initialize(window=st.integers(1, 4), receive_maximum=st.integers(1, 6))
    def begin(self, window: int, receive_maximum: int) -> None:
        self.window = min(window, receive_maximum)
        self.receive_maximum = receive_maximum
        self.now = 0.0
        self.stored: list[Bundle] = []
        self.mute: set[int] = set()
        self.receipted: set[int] = set()
        self.connect()

    def connect(self) -> None:
        self.flow = session(window=self.window, receive_maximum=self.receive_maximum)
        self.in_flight: list[int] = []
        self.published: set[int] = set()

    def pump(self) -> None:
        try:
            self.flow.check(self.now)
        except ConnectionLostError:
            assert self.in_flight
            self.connect()
        for bundle in take(self.flow, [each for each in self.stored if each.position not in self.receipted], self.now):
            assert bundle.position not in self.in_flight
            assert bundle.position not in self.receipted
            before = [each for each in self.stored if each.position < bundle.position]
            for earlier in (each.position for each in before if each.link.chain == bundle.link.chain):
                assert earlier in self.published | self.receipted | self.flow.parked.keys()
            self.published.add(bundle.position)
            self.in_flight.append(bundle.position)

    def settle(self, position: int) -> None:
        self.receipted.add(position)
        link = self.stored[position].link
        self.flow.receipted([ReceiptRange(link.chain, link.no, link.no, b"")], self.now)

    @rule(count=st.integers(1, 12), fresh_chain=st.booleans(), mute=st.booleans())
    def store(self, count: int, fresh_chain: bool, mute: bool) -> None:  # noqa: FBT001 - drawn
        if mute:
            self.mute.update(range(len(self.stored), len(self.stored) + count))
        for _ in range(count):
            last = self.stored[-1].link if self.stored else Link(b"\0", -1, b"")
            link = Link(bytes([last.chain[0] + 1]), 0, b"") if fresh_chain else Link(last.chain, last.no + 1, b"")
            fresh_chain = False
            self.stored.append(Bundle(len(self.stored), link))

    @rule()
    def wake(self) -> None:
        self.pump()

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), code=st.sampled_from([0, 0, 0, 0, 0x10, 0x87, 0x97]))
    def acknowledge(self, data: st.DataObject, code: int) -> None:
        position = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        try:
            self.flow.acknowledged(position, code, self.now)
        except ConnectionRefusedByBrokerError:
            self.connect()

    @precondition(lambda self: self.published - self.receipted - self.mute)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        self.settle(data.draw(st.sampled_from(sorted(self.published - self.receipted - self.mute))))

    @rule(seconds=st.sampled_from([0.1, 5.0, ACK_TIMEOUT_S, RECEIPT_TIMEOUT_S]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def lose_connection(self) -> None:
        self.connect()

    @rule()
    def restore_the_receiver(self) -> None:
        self.receipted.clear()
        self.flow.restart(self.now)

    @invariant()
    def bounds_hold(self) -> None:
        assert self.flow.in_flight == len(self.in_flight) <= self.window
        assert self.flow.outstanding <= 2 * 8 * self.window

    def teardown(self) -> None:
        """With a broker and a receiver that answer, what can be receipted is, in a bounded time."""
        silent_rounds = len(self.mute) // (8 * self.window) + 2
        for _ in range(3 * len(self.stored) + 3 + 16 * silent_rounds):
            self.pump()
            for position in self.in_flight:
                self.flow.acknowledged(position, 0, self.now)
            self.in_flight = []
            for position in self.published - self.receipted - self.flow.parked.keys() - self.mute:
                self.settle(position)
            self.now += RECEIPT_TIMEOUT_S
        unparked = {bundle.position for bundle in self.stored} - self.flow.parked.keys()
        assert unparked <= self.receipted | self.mute


AnyInterleaving.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_any_interleaving = AnyInterleaving.TestCase
