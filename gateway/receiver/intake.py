"""From messages to committed rows and signed receipts: ingest and store, joined. It blocks; run it in a thread."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.envelope.keys import RecipientKey, Signer, VerifyKey
from gateway.envelope.receipt import encode_receipt
from gateway.errors import StoreChangedError
from gateway.model import Receipt
from gateway.receiver.ingest import decide, verify
from gateway.receiver.plan import Arrival, Last, Message, Plan
from gateway.receiver.store import Committed, Store


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of some messages, after the commit."""

    plan: Plan
    committed: Committed
    receipts: tuple[tuple[str, bytes], ...]
    """(gateway id, signed receipt)."""
    unverified: int
    """How many of the plan's quarantined did not verify; they stand first."""
    commit_s: float


@dataclass(frozen=True, slots=True)
class Intake:
    """Keys and store of one receiver."""

    store: Store
    registry: Mapping[bytes, tuple[str, VerifyKey]]
    """The kid of every signer: whose it is, and its key."""
    recipient_keys: Mapping[bytes, RecipientKey]
    signer: Signer
    """Signs receipts."""
    parked_limit: int
    parked_per_gateway: int
    limits: Callable[[], Mapping[bytes, Last]] = dict
    """Asked before each transaction: which signers are revoked, and what of theirs still counts."""

    def take(self, messages: Sequence[Message], *, now_ms: int) -> Taken:
        """Verify, decide and commit in one transaction. Raises `StoreError`; then nothing has happened."""
        limits = self.limits()
        arrivals, unverified = verify(messages, self.registry, limits)
        while True:
            plan = self._decide(arrivals)
            plan = replace(plan, quarantined=(*unverified, *plan.quarantined))
            started = time.perf_counter()
            try:
                committed = self.store.commit(plan, now_ms=now_ms)
            except StoreChangedError:
                continue  # another receiver got ahead, so that there is progress
            commit_s = time.perf_counter() - started
            break
        return Taken(plan, committed, self._receipts(plan, committed.counter, now_ms), len(unverified), commit_s)

    def _decide(self, arrivals: Sequence[Arrival]) -> Plan:
        return decide(
            arrivals,
            self.store.load([arrival.bundle for arrival in arrivals]),
            recipient_keys=self.recipient_keys,
            parked_limit=self.parked_limit,
            parked_per_gateway=self.parked_per_gateway,
        )

    def _receipts(self, plan: Plan, counter: int, now_ms: int) -> tuple[tuple[str, bytes], ...]:
        receipts = []
        for answer in plan.answers:
            receipt = Receipt(
                gateway=answer.gateway,
                store=self.store.id,
                counter=counter,
                ranges=answer.ranges,
                refused=answer.refused,
                time_ms=now_ms,
            )
            receipts.append((answer.gateway, encode_receipt(receipt, self.signer)))
        return tuple(receipts)
