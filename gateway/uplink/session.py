"""Sans-IO: what one connection publishes and when, and what a PUBACK, a receipt or silence changes.

Urgent bundles go first, then live ones, each in the order of its chain. What lies before the first live bundle and was
not sent is the backlog: it drains behind the live, oldest first, on a share of the window, and never has more than that
under way. A live bundle needs no key that the backlog opens: so the openers of a bundle's epochs are always receipted,
or were published before it.

A PUBACK only opens the window; a bundle counts as under way until a receipt covers it. What no receipt covers in time
is overdue: it holds up nothing behind it any more and is sent again, oldest first, in rounds. While no receipt comes at
all, live bundles still go out once each; of the backlog and of what is overdue one bundle at a time asks who is there.

Times are seconds of any monotonic clock.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gateway.errors import ConnectionLostError, ConnectionRefusedByBrokerError
from gateway.model import Lane, Link, ReceiptRange, Refusal

PACKET_TOO_LARGE = 0x95

_FAILURE = 0x80
_FOR_NOW = frozenset({0x80, 0x83, 0x88, 0x89, 0x93, 0x96, 0x97})
"""MQTT 5, 2.4: unspecified, implementation specific, unavailable, busy, receive maximum, rate too high, quota."""

_OVERHEAD_BYTES = 256
"""What PUBLISH adds to a bundle: fixed header, topic, packet id, no properties."""

_WINDOWS_AHEAD = 8
_PATIENCE_GROWTH_MAX = 16


class Bundle(Protocol):
    """What the session must know of a stored bundle."""

    @property
    def lane(self) -> Lane:
        """The lane of the outbox that it lies in."""

    @property
    def position(self) -> int:
        """Its place there; ascends, and no two lanes share one."""

    @property
    def link(self) -> Link:
        """Its place in its chain."""

    @property
    def size(self) -> int:
        """Bytes on the wire."""


B = TypeVar("B", bound=Bundle)
Offer = Callable[[Lane, int, int], Sequence[B]]


@dataclass(slots=True)
class _Queue:
    """Bundles of a lane that go out in ascending position."""

    lane: Lane
    patience_s: float
    """How long the oldest may wait for a receipt."""
    after: float = -1
    """Bundles up to this position have had their turn."""
    end: float = math.inf
    """Those beyond it are not its own."""
    under_way: dict[int, tuple[Link, float]] = field(default_factory=dict)
    """Published and not receipted, with the time of publishing, which ascends."""

    @property
    def deadline_s(self) -> float | None:
        """When the oldest becomes overdue."""
        return next((sent_s + self.patience_s for _, sent_s in self.under_way.values()), None)


@dataclass(slots=True)
class _Again(_Queue):
    """Repetitions of what is overdue, in rounds: `end` is where the present one ends."""

    end: float = -1
    due: bool = False
    """Something became overdue since this round began."""


class Session(Generic[B]):
    """One connection's publishing.

    Bundles of the data lane beyond the position `live_after` are live; None: that is not known yet, all are backlog.
    """

    def __init__(
        self,
        *,
        window: int,
        backlog_share: float,
        receive_maximum: int,
        maximum_packet_size: int,
        ack_timeout_s: float,
        receipt_timeout_s: float,
        live_after: int | None,
    ) -> None:
        self.parked: dict[int, str] = {}
        """Position to cause: refused for good, so not offered again on this connection."""
        self._window = min(window, receive_maximum)
        self._share = backlog_share
        self._share_window = max(1, int(backlog_share * self._window))
        self._maximum_bundle_bytes = maximum_packet_size - _OVERHEAD_BYTES
        self._ack_timeout_s = ack_timeout_s
        self._receipt_timeout_s = receipt_timeout_s
        self._urgent = _Queue(Lane.URGENT, receipt_timeout_s)
        self._live = _Queue(Lane.DATA, receipt_timeout_s, after=math.inf if live_after is None else live_after)
        self._backlog = _Queue(Lane.DATA, receipt_timeout_s, end=math.inf if live_after is None else -1)
        self._urgent_again = _Again(Lane.URGENT, 2 * receipt_timeout_s)
        self._again = _Again(Lane.DATA, 2 * receipt_timeout_s)
        self._queues = (self._urgent_again, self._urgent, self._live, self._again, self._backlog)
        self._unacknowledged: dict[int, float] = {}
        self._last_ack_s = 0.0
        self._answered_s = -math.inf
        self._mute = False
        """Something became overdue, and no receipt came since it was sent."""
        self._turn = 0.0
        """How many slots of the window the backlog has lent to live bundles and may take back."""

    @property
    def in_flight(self) -> int:
        """Published, and the broker has not acknowledged."""
        return len(self._unacknowledged)

    @property
    def under_way(self) -> int:
        """Published, no receipt covers it, and not overdue."""
        return sum(len(each.under_way) for each in self._queues)

    @property
    def deadline_s(self) -> float | None:
        """When `check` must be called at the latest; None: not before something happens."""
        deadlines = [each.deadline_s for each in self._queues if each.deadline_s is not None]
        if self._unacknowledged:
            deadlines.append(self._last_ack_s + self._ack_timeout_s)
        return min(deadlines, default=None)

    def behind(self, newest: int) -> float:
        """By how many positions the live bundles trail behind `newest`; infinity while there are none."""
        return math.inf if self._live.after == math.inf else newest - self._live.after

    def live_from(self, position: int) -> None:
        """Live begins here, if it has not come so far: no later bundle needs a key that an earlier one opens."""
        if self._live.after == math.inf:
            self._live.after = self._backlog.end = position - 1
        elif self._live.after < position - 1:
            if self._backlog.after >= self._backlog.end:
                self._backlog.after = self._live.after
            self._live.after = self._backlog.end = position - 1

    def check(self, now_s: float) -> bool:
        """Whether receipts have become overdue: those bundles make way for newer ones, and are sent again.

        Each time nobody answers a round of repetitions, the patience with the next doubles, up to 16 times. Raises
        `ConnectionLostError` if the broker stopped to acknowledge.
        """
        if self._unacknowledged and now_s >= self._last_ack_s + self._ack_timeout_s:
            raise ConnectionLostError(f"no acknowledgement within {self._ack_timeout_s:g} s")
        overdue = False
        for queue in self._queues:
            if queue.deadline_s is not None and now_s >= queue.deadline_s:
                overdue = True
                self._mute |= now_s >= self._answered_s + queue.patience_s
                self._again_of(queue.lane).due = True
                self._forget(queue, now_s - self._receipt_timeout_s, now_s)
                if isinstance(queue, _Again):
                    queue.patience_s = min(2 * queue.patience_s, _PATIENCE_GROWTH_MAX * self._receipt_timeout_s)
        return overdue

    def restart(self, now_s: float) -> None:
        """Offer everything again that no receipt covers; what is in flight counts as just sent.

        Receipts that the openers of live bundles had count no more: all is backlog until `live_from`.
        """
        self._live.after = self._backlog.end = math.inf
        self._backlog.after = self._urgent.after = -1
        for again in (self._urgent_again, self._again):
            again.after = again.end = -1
            again.due = False
        for queue in self._queues:
            self._forget(queue, now_s, now_s)

    def unpark(self) -> None:
        """Offer again what was refused for good: whoever refused it may have changed his mind."""
        self.parked.clear()
        self._again.due = self._urgent_again.due = True

    def take(self, offer: Offer[B], now_s: float) -> list[B]:
        """Choose what is published now; what exceeds the broker's packet size is parked.

        `offer(lane, after, limit)` returns up to `limit` unreceipted bundles of a lane beyond the position `after`,
        ascending. The caller publishes all that is returned, in this order.
        """
        chosen: list[B] = []
        while room := self._window - len(self._unacknowledged):
            urgent = self._candidates((self._urgent_again, self._urgent), offer, room)
            room -= len(urgent)
            live = self._candidates((self._live,), offer, room)
            spare = self._share_window - self._behind_in_flight
            behind = self._candidates((self._again, self._backlog), offer, min(room, spare))
            if not (urgent or live or behind):
                break
            place = self._share_out(room, len(live), len(behind))
            for queue, bundle in (*urgent, *live[: room - place], *behind[:place]):
                self._publish(queue, bundle, now_s)
                chosen.append(bundle)
        return chosen

    def _share_out(self, room: int, live: int, behind: int) -> int:
        """How many of `room` slots the backlog gets, where live bundles want some too."""
        if live + behind <= room:
            return behind
        self._turn += self._share * room
        place = min(behind, max(room - live, int(self._turn)))
        self._turn = min(max(self._turn - place, 0.0), 1.0)
        return place

    @property
    def _behind_in_flight(self) -> int:
        behind = (self._again.under_way, self._backlog.under_way)
        return sum(any(position in each for each in behind) for position in self._unacknowledged)

    def _room(self, queue: _Queue) -> int:
        """How many more of a queue may be under way."""
        if self._mute and (queue is self._backlog or isinstance(queue, _Again)):
            limit = 1
        elif queue is self._backlog:
            limit = self._share_window
        else:
            limit = _WINDOWS_AHEAD * self._window
        return max(0, limit - len(queue.under_way))

    def _candidates(self, queues: Iterable[_Queue], offer: Offer[B], limit: int) -> list[tuple[_Queue, B]]:
        found: list[tuple[_Queue, B]] = []
        for queue in queues:
            if isinstance(queue, _Again):
                self._begin_round(queue)
            room = min(limit - len(found), self._room(queue))
            found += ((queue, bundle) for bundle in self._next(queue, offer, room))
        return found

    def _next(self, queue: _Queue, offer: Offer[B], limit: int) -> list[B]:
        """Up to `limit` bundles of a queue that may go out; those before the first of them have had their turn."""
        found: list[B] = []
        after = queue.after
        while len(found) < limit and after < queue.end:
            offered = offer(queue.lane, int(after), limit - len(found))
            after = offered[-1].position if offered else min(queue.end, after)
            found += (each for each in offered if each.position <= queue.end and self._may_go(queue, each))
            if queue is self._again and self._backlog.after <= after < self._backlog.end:
                after = self._backlog.end  # what lies between was not sent yet
            if not found:
                queue.after = min(after, queue.end) if offered or queue.end == math.inf else queue.end
            if not offered:
                break
        return found

    def _may_go(self, queue: _Queue, bundle: B) -> bool:
        """Whether a bundle is neither under way, nor parked, nor another queue's; parks one that is too large."""
        position = bundle.position
        if position in self._unacknowledged or position in self.parked:
            return False
        if any(position in each.under_way for each in self._queues):
            return False
        if queue is self._again and self._backlog.after < position <= self._backlog.end:
            return False
        if bundle.size > self._maximum_bundle_bytes:
            self.park(position, f"{PACKET_TOO_LARGE:#x}")
            return False
        return True

    def _publish(self, queue: _Queue, bundle: B, now_s: float) -> None:
        queue.after = bundle.position
        if not self._unacknowledged:
            self._last_ack_s = now_s
        self._unacknowledged[bundle.position] = now_s
        queue.under_way[bundle.position] = (bundle.link, now_s)

    def acknowledged(self, position: int, code: int, now_s: float) -> float:
        """Take the reason code of a bundle's PUBACK; returns the seconds since it was published.

        A refusal for good parks the bundle. Raises `ConnectionRefusedByBrokerError` for a refusal for now: connect
        again, later.
        """
        self._last_ack_s = now_s
        sent_s = self._unacknowledged.pop(position)
        if code in _FOR_NOW:
            raise ConnectionRefusedByBrokerError(f"publish refused for now: reason code {code:#x}")
        if code >= _FAILURE:
            self.park(position, f"{code:#x}")
        return now_s - sent_s

    def receipted(self, covered: Iterable[ReceiptRange], now_s: float) -> list[float]:
        """Take what has its receipt now; returns the seconds since each such bundle was last published."""
        numbers: dict[bytes, list[range]] = {}
        for each in covered:
            numbers.setdefault(each.chain, []).append(range(each.first, each.last + 1))
        seconds = []
        for queue in self._queues:
            gone = [
                position
                for position, (link, _) in queue.under_way.items()
                if any(link.no in each for each in numbers.get(link.chain, ()))
            ]
            seconds += [now_s - queue.under_way.pop(position)[1] for position in gone]
            if isinstance(queue, _Again) and (gone or self._mute):
                queue.patience_s = 2 * self._receipt_timeout_s
        self._answered_s = now_s
        self._mute = False
        return seconds

    def refused(self, refusals: Iterable[Refusal]) -> None:
        """Take what the receiver will never store: parked, so that it is not sent again and again."""
        causes = {(each.chain, each.no): each.cause for each in refusals}
        for queue in self._queues:
            for position, (link, _) in [*queue.under_way.items()]:
                cause = causes.get((link.chain, link.no))
                if cause is not None:
                    self.park(position, cause)

    def withdraw(self, position: int, cause: str) -> None:
        """Take note that a bundle which `take` returned could not be published."""
        del self._unacknowledged[position]
        self.park(position, cause)

    def park(self, position: int, cause: str) -> None:
        """Leave a bundle in the outbox and do not offer it again before `unpark`, on this connection."""
        self.parked[position] = cause
        for queue in self._queues:
            queue.under_way.pop(position, None)

    def _begin_round(self, again: _Again) -> None:
        """Begin with the oldest again, if something is due and the round before is over."""
        if again.due and again.after >= again.end:
            newest = self._urgent if again.lane is Lane.URGENT else self._live
            again.end = newest.after if newest.after < math.inf else self._backlog.after
            again.after, again.due = -1, False

    def _again_of(self, lane: Lane) -> _Again:
        return self._urgent_again if lane is Lane.URGENT else self._again

    def _forget(self, queue: _Queue, until_s: float, now_s: float) -> None:
        """Count what was sent until then no more, but for what is in flight: that was sent just now."""
        old = {position: link for position, (link, sent_s) in queue.under_way.items() if sent_s <= until_s}
        young = {position: sent for position, sent in queue.under_way.items() if position not in old}
        in_flight = {position: (link, now_s) for position, link in old.items() if position in self._unacknowledged}
        queue.under_way = young | in_flight
