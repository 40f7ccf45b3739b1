"""A session under any interleaving of what an outbox, a broker, a receiver and a clock may do."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import ConnectionLostError, ConnectionRefusedByBrokerError
from gateway.model import Lane, Link, ReceiptRange
from gateway.uplink.session import Session

from .test_session import ACK_TIMEOUT_S, RECEIPT_TIMEOUT_S, Bundle, take, urgent

URGENT_FIRST = 1 << 48


class AnyInterleaving(RuleBasedStateMachine):
    """Several connections, several chains, an outbox that begins segments now and then.

    The receiver never says a word about the bundles in `mute`.
    """

    @initialize(window=st.integers(1, 4), receive_maximum=st.integers(1, 6), share=st.sampled_from([0.1, 0.5, 0.9]))
    def begin(self, window: int, receive_maximum: int, share: float) -> None:
        self.window = min(window, receive_maximum)
        self.receive_maximum = receive_maximum
        self.share = share
        self.now = 0.0
        self.stored: dict[int, Bundle] = {}
        self.segments = [0]
        self.mute: set[int] = set()
        self.receipted: set[int] = set()
        self.connect(backlog=False)

    def connect(self, *, backlog: bool) -> None:
        self.flow: Session[Bundle] = Session(
            window=self.window,
            backlog_share=self.share,
            receive_maximum=self.receive_maximum,
            maximum_packet_size=1 << 20,
            ack_timeout_s=ACK_TIMEOUT_S,
            receipt_timeout_s=RECEIPT_TIMEOUT_S,
            live_after=None if backlog else -1,
        )
        self.in_flight: list[int] = []
        self.published: set[int] = set()

    @property
    def unreceipted(self) -> list[Bundle]:
        return [each for position, each in sorted(self.stored.items()) if position not in self.receipted]

    @property
    def data(self) -> int:
        return sum(each.lane is Lane.DATA for each in self.stored.values())

    def pump(self) -> None:
        try:
            self.flow.check(self.now)
        except ConnectionLostError:
            assert self.in_flight
            self.connect(backlog=True)
        chosen = take(self.flow, self.unreceipted, self.now)
        for bundle in chosen:
            assert bundle.position not in self.in_flight
            assert bundle.position not in self.receipted | self.flow.parked.keys()
            self.assert_openers_went_before(bundle)
            self.published.add(bundle.position)
            self.in_flight.append(bundle.position)
        assert [each.lane for each in chosen] == sorted(each.lane for each in chosen)
        if any(each.lane is Lane.DATA for each in chosen):
            waiting = {each.position for each in self.unreceipted if each.lane is Lane.URGENT}
            assert waiting <= self.published | self.flow.parked.keys()

    def assert_openers_went_before(self, bundle: Bundle) -> None:
        start = max(each for each in self.segments if each <= bundle.position)
        if bundle.lane is Lane.URGENT:
            start = URGENT_FIRST
        earlier = {each.position for each in self.stored.values() if start <= each.position < bundle.position}
        same_chain = {each for each in earlier if self.stored[each].link.chain == bundle.link.chain}
        assert same_chain <= self.published | self.receipted | self.flow.parked.keys()

    def settle(self, position: int) -> None:
        self.receipted.add(position)
        link = self.stored[position].link
        self.flow.receipted([ReceiptRange(link.chain, link.no, link.no, b"")], self.now)

    @rule(count=st.integers(1, 12), fresh_chain=st.booleans(), mute=st.booleans())
    def store(self, count: int, fresh_chain: bool, mute: bool) -> None:  # noqa: FBT001 - drawn
        first = self.data
        if mute:
            self.mute.update(range(first, first + count))
        for position in range(first, first + count):
            last = self.stored[position - 1].link if position else Link(b"\0", -1, b"")
            link = Link(bytes([last.chain[0] + 1]), 0, b"") if fresh_chain else Link(last.chain, last.no + 1, b"")
            fresh_chain = False
            self.stored[position] = Bundle(position, link)

    @rule()
    def store_urgent(self) -> None:
        bundle = urgent(len(self.stored) - self.data)
        self.stored[bundle.position] = bundle

    @rule(tell=st.booleans())
    def begin_segment(self, tell: bool) -> None:  # noqa: FBT001 - drawn
        self.segments.append(self.data)
        if tell:
            self.flow.live_from(self.data)

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
            assert code == 0x97
            self.connect(backlog=True)

    @precondition(lambda self: self.published - self.receipted - self.mute)
    @rule(data=st.data())
    def receipt(self, data: st.DataObject) -> None:
        self.settle(data.draw(st.sampled_from(sorted(self.published - self.receipted - self.mute))))

    @rule()
    def receipt_of_nothing_new(self) -> None:
        self.flow.receipted((), self.now)

    @rule(seconds=st.sampled_from([0.1, 5.0, ACK_TIMEOUT_S, RECEIPT_TIMEOUT_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(backlog=st.booleans())
    def lose_connection(self, backlog: bool) -> None:  # noqa: FBT001 - drawn
        self.connect(backlog=backlog)

    @rule()
    def restore_the_receiver(self) -> None:
        self.receipted.clear()
        self.flow.restart(self.now)

    @rule()
    def offer_parked_again(self) -> None:
        self.flow.unpark()

    @invariant()
    def bounds_hold(self) -> None:
        assert self.flow.in_flight == len(self.in_flight) <= self.window
        assert self.flow.under_way <= (4 * 8 + 1) * self.window

    def teardown(self) -> None:
        """With a broker and a receiver that answer, what can be receipted is, in a bounded time."""
        silent_rounds = 2 * len(self.mute) + 2
        for _ in range(3 * len(self.stored) + 3 + 16 * silent_rounds):
            self.pump()
            for position in self.in_flight:
                self.flow.acknowledged(position, 0, self.now)
            self.in_flight = []
            for position in self.published - self.receipted - self.flow.parked.keys() - self.mute:
                self.settle(position)
            self.now += RECEIPT_TIMEOUT_S
        assert self.stored.keys() - self.flow.parked.keys() <= self.receipted | self.mute


AnyInterleaving.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_any_interleaving = AnyInterleaving.TestCase
