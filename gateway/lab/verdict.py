"""The demo's verdict: what the wearables say they sent, against what the receiver's store holds.

emitted = stored + explained + in_air + lost. The gateway has no say in it: before a killed gateway starts again, the
bundles on its disk are listed, and each of them must be in the store.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

_SAME_MOMENT_MS = 700


@dataclass(frozen=True, slots=True)
class Emission:
    """One value that a wearable measured, from its own ledger."""

    device: str
    metric: int
    value: Decimal
    sent_ms: int
    session: str | None
    sequence: int | None
    linked: bool
    """A subscribed, encrypted link was up when it was measured."""
    kept: bool
    """The wearable stores it and gives it again on request."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reading in the receiver's store."""

    device: str
    metric: int
    value: Decimal | None
    time_ms: int
    session: str | None
    sequence: int | None
    backfilled: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL of the gateway: when, and how long before it a reading may not have been durable yet."""

    at_ms: int
    exposure_ms: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The numbers of a run; all count single values except `kills` and `outages`."""

    emitted: int
    captured: int
    stored: int
    explained: int
    in_air: int
    lost_after_fsync: int
    lost_from_stored_records: int
    backfilled: int
    duplicates: int
    unverified: int
    kills: int
    outages: int

    @property
    def passed(self) -> bool:
        """Nothing was lost, repeated or taken unverified, and the numbers add up."""
        lost = self.lost_after_fsync + self.lost_from_stored_records
        adds_up = self.emitted == self.stored + self.explained + self.in_air + lost
        return not (lost or self.duplicates or self.unverified) and adds_up and self.stored > 0


def judge(
    emissions: Sequence[Emission],
    rows: Sequence[Row],
    *,
    until_ms: int,
    kills: Sequence[Kill],
    outages: int,
    captured: int,
    missing_after_fsync: int,
    explained: int,
    quarantined: int,
    clock_offsets_ms: Sequence[int] = (0,),
) -> Verdict:
    """Compare ledger and store.

    Emissions after `until_ms` may still be under way: their rows count as known, but nothing is demanded of them.
    `missing_after_fsync` is how many readings lie in bundles that a killed gateway had on its disk and the store lacks;
    `quarantined` how many bundles the receiver would not believe; `clock_offsets_ms` by how much the gateway's clock
    was ahead at one time or another.
    """
    duplicates, strays, found = _match(emissions, rows, clock_offsets_ms)
    due = [emission for emission in emissions if emission.sent_ms <= until_ms]
    missing = [emission for emission in due if id(emission) not in found]
    kept = [emission for emission in missing if emission.kept]
    in_air = [emission for emission in missing if not emission.kept and _in_air(emission, kills)]
    owed = len(missing) - len(in_air)
    explained = min(explained, owed)
    kept_lost = min(len(kept), owed - explained)
    stored = len(due) - len(missing)
    return Verdict(
        emitted=len(due),
        captured=captured,
        stored=stored,
        explained=explained,
        in_air=len(in_air),
        lost_after_fsync=max(owed - explained - kept_lost, missing_after_fsync),
        lost_from_stored_records=kept_lost,
        backfilled=sum(row.backfilled for row in rows),
        duplicates=duplicates,
        unverified=strays + quarantined,
        kills=len(kills),
        outages=outages,
    )


def _in_air(emission: Emission, kills: Iterable[Kill]) -> bool:
    return not emission.linked or any(
        kill.at_ms - kill.exposure_ms <= emission.sent_ms <= kill.at_ms + _SAME_MOMENT_MS for kill in kills
    )


def _match(
    emissions: Sequence[Emission], rows: Sequence[Row], clock_offsets_ms: Sequence[int]
) -> tuple[int, int, set[int]]:
    """Pair rows with emissions: (rows that repeat another, rows that nobody sent, emissions found).

    Stored records are paired by what the device itself counts; live values without a number by value and moment.
    """
    numbered: dict[tuple[str, int, str | None, int | None, Decimal | None], Emission] = {}
    moments: dict[tuple[str, int, Decimal | None], list[Emission]] = defaultdict(list)
    for emission in emissions:
        if emission.sequence is None:
            moments[emission.device, emission.metric, emission.value].append(emission)
        else:
            key = (emission.device, emission.metric, emission.session, emission.sequence, emission.value)
            numbered[key] = emission
    found: set[int] = set()
    duplicates = strays = 0
    for row in sorted(rows, key=lambda each: each.time_ms):
        if row.sequence is not None:
            candidates: list[Emission | None] = [
                numbered.get((row.device, row.metric, row.session, row.sequence, row.value))
            ]
        else:
            same = moments[row.device, row.metric, row.value]
            candidates = [
                near for offset_ms in clock_offsets_ms for near in _at_that_moment(same, row.time_ms - offset_ms)
            ]
        known = [each for each in candidates if each is not None]
        fresh = [each for each in known if id(each) not in found]
        if fresh:
            found.add(id(fresh[0]))
        elif known:
            duplicates += 1
        else:
            strays += 1
    return duplicates, strays, found


def _at_that_moment(emissions: Iterable[Emission], time_ms: int) -> list[Emission | None]:
    """Those within the same moment, the nearest first."""
    near = sorted((abs(each.sent_ms - time_ms), place, each) for place, each in enumerate(emissions))
    return [each for distance_ms, _, each in near if distance_ms <= _SAME_MOMENT_MS]
