"""Sans-IO: what one connection publishes and when, and what a PUBACK, a receipt or silence changes.

New bundles go out in ascending position, which is chain order: the openers of a bundle's epochs lie before it, so they
are receipted or were published on this connection. A PUBACK only opens the window; a bundle counts as outstanding until
a receipt covers it. What no receipt covers in time is overdue: it holds up nothing behind it any more, and is sent
again, oldest first, in rounds beside the new.

Times are seconds of any monotonic clock.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gateway.errors import ConnectionLostError, ConnectionRefusedByBrokerError
from gateway.model import Link, ReceiptRange, Refusal

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
    def position(self) -> int:
        """Its place in the outbox; ascends."""

    @property
    def link(self) -> Link:
        """Its place in its chain."""

    @property
    def size(self) -> int:
        """Bytes on the wire."""


B = TypeVar("B", bound=Bundle)


@dataclass(slots=True)
class _Lane:
    """Bundles that go out in ascending position, at most so far ahead of their receipts."""

    patience_s: float
    """How long the oldest may wait for a receipt."""
    after: int = -1
    """Bundles up to this position have had their turn."""
    outstanding: dict[int, tuple[Link, float]] = field(default_factory=dict)
    """Published and not receipted, with the time of publishing, which ascends."""

    @property
    def deadline_s(self) -> float | None:
        """When the oldest becomes overdue."""
        return next((sent_s + self.patience_s for _, sent_s in self.outstanding.values()), None)


class Session(Generic[B]):
    """One connection's publishing."""

    def __init__(
        self,
        *,
        window: int,
        receive_maximum: int,
        maximum_packet_size: int,
        ack_timeout_s: float,
        receipt_timeout_s: float,
    ) -> None:
        self.parked: dict[int, str] = {}
        """Position to cause: refused for good, so not offered again on this connection."""
        self._window = min(window, receive_maximum)
        self._maximum_bundle_bytes = maximum_packet_size - _OVERHEAD_BYTES
        self._ack_timeout_s = ack_timeout_s
        self._receipt_timeout_s = receipt_timeout_s
        self._new = _Lane(receipt_timeout_s)
        self._again = _Lane(2 * receipt_timeout_s)
        self._round_end = -1
        """The position up to which the present round of repetitions goes."""
        self._round_due = False
        """Something became overdue since that round began."""
        self._unacknowledged: dict[int, float] = {}
        self._last_ack_s = 0.0

    @property
    def in_flight(self) -> int:
        """Published, and the broker has not acknowledged."""
        return len(self._unacknowledged)

    @property
    def outstanding(self) -> int:
        """Published, no receipt covers it, and not overdue."""
        return len(self._new.outstanding) + len(self._again.outstanding)

    @property
    def room(self) -> int:
        """How many new bundles may be published now: the window, and at most 8 windows ahead of the receipts."""
        return self._room(self._new)

    @property
    def deadline_s(self) -> float | None:
        """When `check` must be called at the latest; None: not before something happens."""
        deadlines = [each.deadline_s for each in (self._new, self._again) if each.deadline_s is not None]
        if self._unacknowledged:
            deadlines.append(self._last_ack_s + self._ack_timeout_s)
        return min(deadlines, default=None)

    def check(self, now_s: float) -> bool:
        """Whether receipts have become overdue: those bundles make way for newer ones, and are sent again.

        Each time nobody answers the patience doubles, up to 16 times: a receiver that is away does not fill the
        broker with repetitions. Raises `ConnectionLostError` if the broker stopped to acknowledge.
        """
        if self._unacknowledged and now_s >= self._last_ack_s + self._ack_timeout_s:
            raise ConnectionLostError(f"no acknowledgement within {self._ack_timeout_s:g} s")
        overdue = False
        for lane in (self._new, self._again):
            if lane.deadline_s is not None and now_s >= lane.deadline_s:
                lane.patience_s = min(2 * lane.patience_s, _PATIENCE_GROWTH_MAX * self._receipt_timeout_s)
                self._forget(lane, now_s - self._receipt_timeout_s, now_s)
                overdue = self._round_due = True
        return overdue

    def restart(self, now_s: float) -> None:
        """Offer everything again that no receipt covers; what is in flight counts as just sent."""
        self._new.after = self._again.after = self._round_end = -1
        self._round_due = False
        for lane in (self._new, self._again):
            self._forget(lane, now_s, now_s)

    def take(self, offer: Callable[[int, int], Sequence[B]], now_s: float) -> list[B]:
        """Choose what is published now; what exceeds the broker's packet size is parked.

        `offer(after, limit)` returns up to `limit` unreceipted bundles beyond the position `after`, ascending. The
        caller publishes all that is returned, in this order.
        """
        return self._take_again(offer, now_s) + self._take_new(offer, now_s)

    def _take_again(self, offer: Callable[[int, int], Sequence[B]], now_s: float) -> list[B]:
        chosen: list[B] = []
        lane = self._again
        while room := self._room(lane):
            if lane.after >= self._round_end:
                if not self._round_due:
                    break
                lane.after, self._round_end, self._round_due = -1, self._new.after, False
            offered = [each for each in offer(lane.after, room) if each.position <= self._round_end]
            chosen += self._choose(lane, offered, now_s)
            if not offered:
                lane.after = self._round_end
        return chosen

    def _take_new(self, offer: Callable[[int, int], Sequence[B]], now_s: float) -> list[B]:
        chosen: list[B] = []
        while (room := self._room(self._new)) and (offered := offer(self._new.after, room)):
            chosen += self._choose(self._new, offered, now_s)
        return chosen

    def _choose(self, lane: _Lane, offered: Sequence[B], now_s: float) -> list[B]:
        chosen: list[B] = []
        for bundle in offered:
            position = lane.after = bundle.position
            busy = (self._unacknowledged, self._new.outstanding, self._again.outstanding, self.parked)
            if any(position in each for each in busy):
                continue
            if bundle.size > self._maximum_bundle_bytes:
                self.park(position, f"{PACKET_TOO_LARGE:#x}")
                continue
            if not self._unacknowledged:
                self._last_ack_s = now_s
            self._unacknowledged[position] = now_s
            lane.outstanding[position] = (bundle.link, now_s)
            chosen.append(bundle)
        return chosen

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

    def receipted(self, ranges: Iterable[ReceiptRange], now_s: float) -> list[float]:
        """Take what a receipt covers; returns the seconds since each such bundle was last published."""
        covered: dict[bytes, list[range]] = {}
        for each in ranges:
            covered.setdefault(each.chain, []).append(range(each.first, each.last + 1))
        seconds = []
        for lane in (self._again, self._new):
            gone = [
                position
                for position, (link, _) in lane.outstanding.items()
                if any(link.no in numbers for numbers in covered.get(link.chain, ()))
            ]
            seconds += [now_s - lane.outstanding.pop(position)[1] for position in gone]
            if gone and lane is self._again:
                lane.patience_s = 2 * self._receipt_timeout_s
        if seconds:
            self._new.patience_s = self._receipt_timeout_s
        return seconds

    def refused(self, refusals: Iterable[Refusal]) -> None:
        """Take what the receiver will never store: parked, so that it is not sent again and again."""
        causes = {(each.chain, each.no): each.cause for each in refusals}
        for position, (link, _) in [*self._new.outstanding.items(), *self._again.outstanding.items()]:
            cause = causes.get((link.chain, link.no))
            if cause is not None:
                self.park(position, cause)

    def withdraw(self, position: int, cause: str) -> None:
        """Take note that a bundle which `take` returned could not be published."""
        del self._unacknowledged[position]
        self.park(position, cause)

    def park(self, position: int, cause: str) -> None:
        """Leave a bundle in the outbox and do not offer it again on this connection."""
        self.parked[position] = cause
        self._new.outstanding.pop(position, None)
        self._again.outstanding.pop(position, None)

    def _room(self, lane: _Lane) -> int:
        ahead = _WINDOWS_AHEAD * self._window - len(lane.outstanding)
        return max(0, min(self._window - len(self._unacknowledged), ahead))

    def _forget(self, lane: _Lane, until_s: float, now_s: float) -> None:
        """Count what was sent until then no more, but for what is in flight: that was sent just now."""
        old = {position: link for position, (link, sent_s) in lane.outstanding.items() if sent_s <= until_s}
        young = {position: sent for position, sent in lane.outstanding.items() if position not in old}
        in_flight = {position: (link, now_s) for position, link in old.items() if position in self._unacknowledged}
        lane.outstanding = young | in_flight
