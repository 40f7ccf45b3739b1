"""Sans-IO: what one connection publishes and when, and what a PUBACK, a receipt or silence changes.

Bundles go out in ascending position, which is chain order: the openers of a bundle's epochs lie before it, so they are
receipted or were published on this connection. A PUBACK only opens the window; a bundle counts as outstanding until a
receipt covers it. Whatever is resent, is resent from the oldest unreceipted bundle on.

Times are seconds of any monotonic clock.
"""

from collections.abc import Iterable, Sequence
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
        self.after = -1
        """Bundles up to this position have had their turn."""
        self.parked: dict[int, str] = {}
        """Position to cause: refused for good, so not offered again on this connection."""
        self._window = min(window, receive_maximum)
        self._maximum_bundle_bytes = maximum_packet_size - _OVERHEAD_BYTES
        self._ack_timeout_s = ack_timeout_s
        self._receipt_timeout_s = receipt_timeout_s
        self._patience_s = receipt_timeout_s
        self._unacknowledged: dict[int, float] = {}
        self._outstanding: dict[int, tuple[Link, float]] = {}
        self._last_ack_s = 0.0

    @property
    def in_flight(self) -> int:
        """Published, and the broker has not acknowledged."""
        return len(self._unacknowledged)

    @property
    def outstanding(self) -> int:
        """Published, and no receipt covers it."""
        return len(self._outstanding)

    @property
    def room(self) -> int:
        """How many bundles may be published now: the window, and at most 8 windows ahead of the receipts."""
        ahead = _WINDOWS_AHEAD * self._window - len(self._outstanding)
        return max(0, min(self._window - len(self._unacknowledged), ahead))

    @property
    def deadline_s(self) -> float | None:
        """When `check` must be called at the latest; None: not before something happens."""
        deadlines = []
        if self._unacknowledged:
            deadlines.append(self._last_ack_s + self._ack_timeout_s)
        if self._outstanding:
            deadlines.append(self._oldest_s() + self._patience_s)
        return min(deadlines, default=None)

    def check(self, now_s: float) -> bool:
        """Whether to offer again from the oldest unreceipted bundle on, because receipts are overdue.

        Each time nobody answers the patience doubles, up to 16 times: a receiver that is away does not fill the
        broker with repetitions. Raises `ConnectionLostError` if the broker stopped to acknowledge.
        """
        if self._unacknowledged and now_s >= self._last_ack_s + self._ack_timeout_s:
            raise ConnectionLostError(f"no acknowledgement within {self._ack_timeout_s:g} s")
        if not self._outstanding or now_s < self._oldest_s() + self._patience_s:
            return False
        self._patience_s = min(2 * self._patience_s, _PATIENCE_GROWTH_MAX * self._receipt_timeout_s)
        self.restart(now_s)
        return True

    def restart(self, now_s: float) -> None:
        """Offer everything again that no receipt covers; what is in flight counts as just sent."""
        self.after = -1
        self._outstanding = {
            position: (link, now_s)
            for position, (link, _) in self._outstanding.items()
            if position in self._unacknowledged
        }

    def take(self, offered: Sequence[B], now_s: float) -> list[B]:
        """Choose from `offered`, unreceipted bundles beyond `after` in ascending order, what is published now.

        The caller publishes all that is returned, in this order. What exceeds the broker's packet size is parked.
        """
        chosen: list[B] = []
        room = self.room
        for bundle in offered:
            if len(chosen) == room:
                break
            self.after = bundle.position
            if bundle.position in self.parked or bundle.position in self._unacknowledged:
                continue
            if bundle.size > self._maximum_bundle_bytes:
                self.park(bundle.position, f"{PACKET_TOO_LARGE:#x}")
                continue
            if not self._unacknowledged:
                self._last_ack_s = now_s
            self._unacknowledged[bundle.position] = now_s
            self._outstanding[bundle.position] = (bundle.link, now_s)
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
        gone = [
            position
            for position, (link, _) in self._outstanding.items()
            if any(link.no in numbers for numbers in covered.get(link.chain, ()))
        ]
        if gone:
            self._patience_s = self._receipt_timeout_s
        return [now_s - self._outstanding.pop(position)[1] for position in gone]

    def refused(self, refusals: Iterable[Refusal]) -> None:
        """Take what the receiver will never store: parked, so that it is not sent again and again."""
        causes = {(each.chain, each.no): each.cause for each in refusals}
        for position, (link, _) in list(self._outstanding.items()):
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
        self._outstanding.pop(position, None)

    def _oldest_s(self) -> float:
        return next(iter(self._outstanding.values()))[1]
