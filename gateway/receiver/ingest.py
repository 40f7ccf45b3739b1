"""Decides what becomes of bundles that arrived: stored, parked, quarantined, answered. Sans-IO.

`verify` believes nothing and needs no state; `decide` compares what verified with what the store knows
(`docs/format.md`, "The receiver's rules"). Nothing of a bundle is stored unless all of it is good.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from gateway.envelope.keys import RecipientKey, VerifyKey
from gateway.envelope.layout import HASH_BYTES, ID_BYTES, self_stream
from gateway.envelope.open import EpochPart, OpenEpoch, SignedBundle, parse
from gateway.envelope.records import Columns
from gateway.errors import DecryptError, MalformedError, SealError, SignerError, UnknownEpochError
from gateway.model import Event, Extra, ExtraValue, ReceiptRange, Refusal
from gateway.receiver.coverage import Coverage, Run
from gateway.receiver.plan import (
    Anchor,
    Answer,
    Arrival,
    BundleKey,
    ChainKey,
    Explained,
    Fork,
    Last,
    Message,
    NewEpoch,
    NewPart,
    Plan,
    Quarantined,
    ReadingColumns,
    SeriesKey,
    State,
    Stored,
    Successor,
    Tombstone,
    as_json,
)
from gateway.receiver.times import anchors, boot_times

MAX_RANGES = 256
"""Ranges, and refusals, of one receipt; what does not fit is answered when it is sent again."""

_EVICTION = "eviction"


def verify(
    messages: Iterable[Message],
    registry: Mapping[bytes, tuple[str, VerifyKey]],
    limits: Mapping[bytes, Last] = MappingProxyType({}),
) -> tuple[list[Arrival], list[Quarantined]]:
    """Part what is whole and signed by its gateway from what must not be believed.

    `registry` maps a signer's kid to the gateway it signs for and its key; `limits` those signers that were revoked to
    the last bundle of theirs that still counts.
    """
    arrivals, refused = [], []
    for message in messages:
        try:
            arrivals.append(Arrival(message, _verified(message, registry, limits)))
        except SealError as error:
            refused.append(_quarantined(message, error.cause))
    return arrivals, refused


def _verified(
    message: Message, registry: Mapping[bytes, tuple[str, VerifyKey]], limits: Mapping[bytes, Last]
) -> SignedBundle:
    bundle = parse(message.payload)
    if bundle.gateway != message.gateway:
        raise SignerError("names another gateway than its topic")
    owner, key = registry.get(bundle.signer_kid, (None, None))
    if key is None or owner != bundle.gateway:
        raise SignerError("signed by a key that is not registered for its gateway")
    last = limits.get(bundle.signer_kid)
    if last is not None and (bundle.chain != last.chain or bundle.no > last.no):
        raise SignerError("signed by a revoked key, beyond its last bundle")
    bundle.verify(key)
    return bundle


def _quarantined(message: Message, cause: str) -> Quarantined:
    return Quarantined(message, cause, sha256(message.payload).digest())


def decide(
    arrivals: Sequence[Arrival],
    state: State,
    *,
    recipient_keys: Mapping[bytes, RecipientKey],
    parked_limit: int,
    parked_per_gateway: int,
) -> Plan:
    """Decide about verified bundles, in any order and with repetitions; `state` is used up.

    At most `parked_limit` bundles are parked in all, and `parked_per_gateway` of each gateway. Never raises for what a
    gateway sent: that is parked, or refused and quarantined with its cause.
    """
    decision = _Decision(state, recipient_keys, parked_limit, parked_per_gateway)
    for arrival in sorted(arrivals, key=lambda each: (each.bundle.gateway, each.bundle.chain, each.bundle.no)):
        decision.take(arrival)
    return decision.plan(arrivals)


@dataclass(slots=True)
class _Opened:
    """Everything in one bundle, opened and found good."""

    parts: list[NewPart] = field(default_factory=list)
    series: dict[SeriesKey, Coverage] = field(default_factory=dict)
    discarded: int = 0


@dataclass(slots=True)
class _Decision:
    """Gathers a plan while it goes from bundle to bundle."""

    state: State
    keys: Mapping[bytes, RecipientKey]
    parked_limit: int
    parked_per_gateway: int
    bundles: list[SignedBundle] = field(default_factory=list)
    epochs: list[NewEpoch] = field(default_factory=list)
    parts: list[NewPart] = field(default_factory=list)
    explained: list[Explained] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    parked: list[Arrival] = field(default_factory=list)
    unparked: list[BundleKey] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    forks: list[Fork] = field(default_factory=list)
    answered: set[BundleKey] = field(default_factory=set)
    refused: dict[BundleKey, str] = field(default_factory=dict)
    redelivered: int = 0
    discarded: int = 0
    overflowed: int = 0

    def take(self, arrival: Arrival) -> None:
        """Decide about one bundle."""
        bundle = arrival.bundle
        key = BundleKey.of(bundle)
        chain = ChainKey(bundle.gateway, bundle.chain)
        known = self.state.bundles.get(chain, {}).get(bundle.no)
        if known is not None and known.hash == bundle.hash:
            self.redelivered += 1
            self._settle(key)
        elif known is not None:
            self.forks.append(Fork("same-number", key))
            self._refuse(arrival, "fork")
        elif self.state.signers.setdefault(chain, bundle.signer_kid) != bundle.signer_kid:
            self._refuse(arrival, SignerError.cause)
        else:
            try:
                opened = self._open(bundle, chain)
            except UnknownEpochError:
                self._park(arrival, key)
            except (DecryptError, MalformedError) as error:
                self._refuse(arrival, error.cause)
            else:
                self._store(bundle, chain, opened)
                self._settle(key)

    def plan(self, arrivals: Sequence[Arrival]) -> Plan:
        """What has been decided; answers name the chains in the order in which they arrived."""
        return Plan(
            bundles=tuple(self.bundles),
            epochs=tuple(self.epochs),
            parts=tuple(self.parts),
            runs=self.state.runs,
            series=self.state.series,
            explained=tuple(self.explained),
            tombstones=tuple(self.tombstones),
            anchors=tuple(self.anchors),
            parked=tuple(self.parked),
            unparked=tuple(self.unparked),
            quarantined=tuple(self.quarantined),
            forks=tuple(self.forks),
            answers=tuple(answer for answer in self._answers(arrivals) if answer.ranges or answer.refused),
            redelivered=self.redelivered,
            discarded=self.discarded,
            overflowed=self.overflowed,
        )

    def _answers(self, arrivals: Sequence[Arrival]) -> Iterator[Answer]:
        chains: dict[str, dict[ChainKey, None]] = {}
        for each in arrivals:
            gateway = each.bundle.gateway
            chains.setdefault(gateway, {})[ChainKey(gateway, each.bundle.chain)] = None
        answered: dict[ChainKey, list[BundleKey]] = {}
        for key in sorted(self.answered):
            answered.setdefault(ChainKey(key.gateway, key.chain), []).append(key)
        refused: dict[str, list[Refusal]] = {}
        for key, cause in self.refused.items():
            refused.setdefault(key.gateway, []).append(Refusal(key.chain, key.no, cause))
        for gateway, own in chains.items():
            ranges = [each for chain in own for each in self._ranges(chain, answered.get(chain, ()))]
            yield Answer(gateway, tuple(ranges[:MAX_RANGES]), tuple(refused.get(gateway, ())[:MAX_RANGES]))

    def _ranges(self, chain: ChainKey, answered: Iterable[BundleKey]) -> Iterator[ReceiptRange]:
        """What is said of a chain of which these bundles, ascending, are here."""
        runs = self.state.runs.get(chain, Coverage())
        highest = {run: key for key in answered if (run := runs.containing(key.no))}
        for run, key in highest.items():
            if key.no < run.last:  # a gateway restored to an earlier state knows no bundle beyond those it sends
                yield ReceiptRange(key.chain, run.first, key.no, key.hash)
            yield ReceiptRange(key.chain, run.first, run.last, run.hash)

    def _settle(self, key: BundleKey) -> None:
        """Answer a bundle that the store has."""
        self.answered.add(key)
        self._unpark(key)

    def _refuse(self, arrival: Arrival, cause: str) -> None:
        """Answer a bundle that can never be stored."""
        key = BundleKey.of(arrival.bundle)
        self.quarantined.append(_quarantined(arrival.message, cause))
        self.refused[key] = cause
        self._unpark(key)

    def _unpark(self, key: BundleKey) -> None:
        if key in self.state.parked:
            self.state.parked.remove(key)
            self.state.parked_count -= 1
            self.state.parked_of[key.gateway] -= 1
            self.unparked.append(key)

    def _park(self, arrival: Arrival, key: BundleKey) -> None:
        if key in self.state.parked:
            return
        own = self.state.parked_of.get(key.gateway, 0)
        if self.state.parked_count >= self.parked_limit or own >= self.parked_per_gateway:
            self.overflowed += 1
            return
        self.state.parked.add(key)
        self.state.parked_count += 1
        self.state.parked_of[key.gateway] = own + 1
        self.parked.append(arrival)

    def _open(self, bundle: SignedBundle, chain: ChainKey) -> _Opened:
        """Open everything, and keep the epochs even if a part proves bad: other bundles need them.

        What is of a forgotten stream stays shut, and is left out.
        Raises `UnknownEpochError`, `DecryptError` or `MalformedError`.
        """
        epochs = self.state.epochs.setdefault(chain, {})
        erased = self.state.erased_epochs.setdefault(chain, set())
        for declared in bundle.epochs:
            if (bundle.gateway, declared.stream) not in self.state.erased_streams:
                self._open_epoch(bundle, declared, epochs)
            elif declared.epoch not in erased:
                erased.add(declared.epoch)
                self.tombstones.append(Tombstone(chain, declared.epoch, declared.stream))
        if any(sealed.epoch not in epochs and sealed.epoch not in erased for sealed in bundle.parts):
            raise UnknownEpochError("a part's epoch has not arrived")
        opened = _Opened()
        for sealed in bundle.parts:
            if sealed.epoch in erased:
                opened.discarded += sealed.count
                continue
            part = sealed.open(bundle, epochs[sealed.epoch])
            key = SeriesKey(bundle.gateway, part.stream, bundle.chain)
            numbers = Run(part.first, part.first + part.count - 1)
            known = self.state.series.setdefault(key, Coverage())
            inside = opened.series.setdefault(key, Coverage())
            if known.overlaps(numbers.first, numbers.last) or inside.overlaps(numbers.first, numbers.last):
                raise MalformedError("records are numbered twice")
            inside.add(numbers)
            content = _reading_columns(part.content) if isinstance(part.content, Columns) else part.content
            times = tuple(boot_times(part.first, part.content))
            opened.parts.append(NewPart(key, part.first, part.count, content, times))
        return opened

    def _open_epoch(self, bundle: SignedBundle, part: EpochPart, epochs: dict[int, OpenEpoch]) -> None:
        opened = part.open(bundle, self.keys)
        known = epochs.setdefault(part.epoch, opened)
        if known is opened:
            self.epochs.append(NewEpoch(bundle.gateway, bundle.signer_kid, part, opened))
        elif (known.stream, known.secret) != (opened.stream, opened.secret):
            raise MalformedError("an epoch is declared twice")

    def _store(self, bundle: SignedBundle, chain: ChainKey, opened: _Opened) -> None:
        self.forks += (
            Fork(cause, BundleKey.of(bundle)) for cause in sorted(_contradictions(bundle, chain, self.state))
        )
        self.state.bundles.setdefault(chain, {})[bundle.no] = Stored(bundle.hash, bundle.prev)
        self.state.runs.setdefault(chain, Coverage()).add(Run(bundle.no, bundle.no, bundle.hash))
        if bundle.no == 0 and bundle.predecessor is None:
            self.state.roots.setdefault(bundle.gateway, set()).add(bundle.chain)
        elif bundle.no == 0 and bundle.predecessor is not None:
            named, last = bundle.predecessor
            successors = self.state.successors.setdefault(ChainKey(bundle.gateway, named), {})
            successors[bundle.chain] = Successor(last, bundle.prev)
        for key, fresh in opened.series.items():
            for run in fresh.runs:
                self.state.series[key].add(run)
        self.bundles.append(bundle)
        self.parts += opened.parts
        self.discarded += opened.discarded
        own = tuple(_own_events(bundle.gateway, opened.parts))
        self.explained += _explained(bundle.gateway, own)
        self.anchors += anchors(bundle.gateway, own)


def _contradictions(bundle: SignedBundle, chain: ChainKey, state: State) -> set[str]:
    """Where a bundle contradicts what is stored of its gateway's history, whichever of the two came first."""
    found = set()
    neighbours = state.bundles.get(chain, {})
    left, right = neighbours.get(bundle.no - 1), neighbours.get(bundle.no + 1)
    if (left and left.hash != bundle.prev) or (right and right.prev != bundle.hash):
        found.add("broken-link")
    for successor in state.successors.get(chain, {}).values():
        if successor.no < bundle.no:
            found.add("successor-behind")
        elif successor.no == bundle.no and successor.hash != bundle.hash:
            found.add("broken-link")
    if bundle.no > 0:
        return found
    if bundle.predecessor is None:
        return found | ({"second-root"} if state.roots.get(bundle.gateway) else set())
    named, last = bundle.predecessor
    predecessor = ChainKey(bundle.gateway, named)
    end = state.bundles.get(predecessor, {}).get(last)
    if end and end.hash != bundle.prev:
        found.add("broken-link")
    if state.runs.get(predecessor, Coverage()).last > last:
        found.add("successor-behind")
    if state.successors.get(predecessor):
        found.add("two-successors")
    return found


def _own_events(gateway: str, parts: Iterable[NewPart]) -> Iterator[Event]:
    """What a gateway says in its own stream."""
    own = self_stream(gateway)
    return (
        event
        for part in parts
        if part.series.stream == own and isinstance(part.content, tuple)
        for event in part.content
    )


def _explained(gateway: str, events: Iterable[Event]) -> Iterator[Explained]:
    """Holes that the gateway explains: event `eviction`, [chain, first, last, hash of the last, ...]."""
    for event in events:
        match event.details:
            case (bytes(chain), int(first), int(last), bytes(digest), *_) if (
                event.code == _EVICTION and (len(chain), len(digest)) == (ID_BYTES, HASH_BYTES) and 0 <= first <= last
            ):
                yield Explained(ChainKey(gateway, chain), Run(first, last, digest))


def _reading_columns(columns: Columns) -> ReadingColumns:
    """Split off the extras that the store keeps in columns of their own; those of the wrong type stay extras."""
    count = len(columns)
    rest = dict(columns.extras)
    sequence: list[int | None] = _taken(rest, Extra.SEQUENCE, int, count)
    session: list[str | None] = _taken(rest, Extra.SESSION, str, count)
    flags = rest.pop(Extra.BACKFILLED, [None] * count)
    if not {None, 1}.issuperset(flags):
        rest[Extra.BACKFILLED] = [None if flag == 1 else flag for flag in flags]
    return ReadingColumns(
        device=columns.device,
        metric=columns.metric,
        mantissa=columns.mantissa,
        exponent=columns.exponent,
        time_ms=columns.time_ms,
        quality=columns.quality,
        sequence=sequence,
        session=session,
        backfilled=[int(flag == 1) for flag in flags],
        extras=_texts(rest, count),
    )


def _taken(extras: dict[int, list[ExtraValue]], key: int, kind: type, count: int) -> list[Any]:
    """Take a column out; what is not of `kind` stays."""
    column = extras.pop(key, None)
    if column is None:
        return [None] * count
    if {kind, type(None)}.issuperset(map(type, column)):
        return column
    extras[key] = [None if isinstance(value, kind) else value for value in column]
    return [value if isinstance(value, kind) else None for value in column]


def _texts(extras: Mapping[int, list[ExtraValue]], count: int) -> list[str | None]:
    """A JSON object a record; most records of a part have the same."""
    if not extras:
        return [None] * count
    keys = sorted(extras)
    rows = list(zip(*(extras[key] for key in keys), strict=True))
    texts: dict[tuple[ExtraValue, ...], str | None] = {}
    for row in set(rows):
        stated = {key: value for key, value in zip(keys, row, strict=True) if value is not None}
        texts[row] = as_json(stated) if stated else None
    return [texts[row] for row in rows]
