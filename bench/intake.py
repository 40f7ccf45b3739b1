"""Sealed bundles to committed rows and signed receipts in PostgreSQL: one worker, two workers, and the bare steps.

Bundles are sealed beforehand, and the epochs that they need are stored; no broker is between. The bare steps are what
nobody can leave out: verify the signature, open the parts, COPY the rows.
"""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench._measure import spread
from gateway.envelope.keys import Ed25519Signer, RecipientKey, VerifyKey
from gateway.envelope.open import parse
from gateway.health.metrics import GLUCOSE
from gateway.lab.fleet import Shape, SimulatedGateway, ticks
from gateway.lab.postgres import Cluster
from gateway.receiver.intake import Intake
from gateway.receiver.plan import Message
from gateway.receiver.postgres.store import PostgresStore

_NOW_MS = 1_790_000_000_000
_AT_ONCE = 256
_ROUNDS = 3
_RECIPIENT = RecipientKey(50, bytes(range(32)))
_RECEIPTS = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
_TYPES = ("int8",) * 8 + ("int2",) * 3 + ("text",) * 3
_COLUMNS = ", ".join(f"c{place} {kind}" for place, kind in enumerate(_TYPES))


@dataclass(frozen=True, slots=True)
class Share:
    """What is sent: so many bundles of each of so many gateways."""

    name: str
    gateways: int
    shape: Shape
    bundles: int

    @property
    def readings(self) -> int:
        """Of all measured bundles."""
        return self.gateways * self.bundles * self.shape.streams * self.shape.readings


_SHARES = (Share("64 streams of 16", 8, Shape(64, 16), 12), Share("one reading", 200, Shape(1, 1), 30))


@dataclass(frozen=True, slots=True)
class Load:
    """Messages of some gateways: those that open epochs, then those that are measured, round by round."""

    gateways: list[SimulatedGateway]
    openers: list[Message]
    measured: list[Message]

    @classmethod
    def of(cls, share: Share, name: str) -> "Load":
        """Seal them, for gateways whose names start with `name`."""
        gateways = [SimulatedGateway(f"gw-{name}-{each}", _RECIPIENT.recipient) for each in range(share.gateways)]
        openers = list(ticks(gateways, share.shape, 1, now_ms=_NOW_MS))
        return cls(gateways, openers, list(ticks(gateways, share.shape, share.bundles, now_ms=_NOW_MS)))


def run() -> dict[str, Any]:
    """Measure; PostgreSQL has to be installed."""
    results: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    with Cluster() as cluster:
        for share in _SHARES:
            rates: dict[str, list[float]] = {}
            for number in range(_ROUNDS):
                loads = [Load.of(share, f"{number}-{worker}") for worker in range(3)]
                url = cluster.create(f"bench_{share.shape.streams}_{number}")
                empty = _bytes(cluster, url)
                wall_s, cpu_s = _take(url, [loads[0]])
                kept = _bytes(cluster, url) - empty
                both_s, _ = _take(url, loads[1:])
                bare_s = _bare(cluster.url(), loads[0], share)
                bundles = share.gateways * share.bundles
                rates.setdefault("one worker, readings/s", []).append(share.readings / wall_s)
                rates.setdefault("one worker, bundles/s", []).append(bundles / wall_s)
                rates.setdefault("one worker, CPU µs/bundle", []).append(1e6 * cpu_s / bundles)
                rates.setdefault("bare, CPU µs/bundle", []).append(1e6 * bare_s / bundles)
                rates.setdefault("store, bytes/bundle", []).append(kept / (bundles + len(loads[0].openers)))
                rates.setdefault("two workers, readings/s", []).append(2 * share.readings / both_s)
            for name, values in rates.items():
                what, _, unit = name.partition(", ")
                results[f"{share.name}: {what}, {unit}"] = spread(values, unit)
            medians = {name: spread(values, "")["median"] for name, values in rates.items()}
            one, two = (float(medians[f"{each}, readings/s"]) for each in ("one worker", "two workers"))
            cost, bare = (float(medians[f"{each}, CPU µs/bundle"]) for each in ("one worker", "bare"))
            ratios |= {f"{share.name}: two workers / one": two / one, f"{share.name}: CPU / bare": cost / bare}
    return {"results": results, "ratios": ratios}


def _intake(url: str, load: Load) -> Intake:
    signers = ((each.name, each.signer) for each in load.gateways)
    registry = {signer.kid: (name, VerifyKey(signer.alg, signer.public)) for name, signer in signers}
    return Intake(
        store=PostgresStore.open(url, incarnation=1),
        registry=registry,
        recipient_keys={_RECIPIENT.kid: _RECIPIENT},
        signer=_RECEIPTS,
        parked_limit=1000,
        parked_per_gateway=1000,
    )


def _work(url: str, load: Load, start: Any, times: Any) -> None:  # noqa: ANN401 - a barrier and a queue of any context
    intake = _intake(url, load)
    for messages in (load.openers[at : at + _AT_ONCE] for at in range(0, len(load.openers), _AT_ONCE)):
        intake.take(messages, now_ms=_NOW_MS)
    start.wait()
    cpu = time.process_time()
    for messages in (load.measured[at : at + _AT_ONCE] for at in range(0, len(load.measured), _AT_ONCE)):
        taken = intake.take(messages, now_ms=_NOW_MS)
        assert len(taken.plan.bundles) == len(messages)
    times.put(time.process_time() - cpu)
    intake.store.close()


def _take(url: str, loads: Sequence[Load]) -> tuple[float, float]:
    """(seconds, CPU seconds of the workers) until every load is committed, each by a process of its own."""
    context = multiprocessing.get_context("fork")
    start, times = context.Barrier(len(loads) + 1), context.Queue()
    workers = [context.Process(target=_work, args=(url, load, start, times)) for load in loads]
    for worker in workers:
        worker.start()
    start.wait()
    started = time.perf_counter()
    spent = sum(times.get() for _ in workers)
    wall_s = time.perf_counter() - started
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return wall_s, spent


def _bytes(cluster: Cluster, url: str) -> int:
    """Of a database, with its indexes."""
    with psycopg.connect(cluster.url()) as connection:
        name = url.partition("@/")[2].partition("?")[0]
        [(size,)] = connection.execute("SELECT pg_database_size(%s)", (name,)).fetchall()
        return int(size)


def _bare(url: str, load: Load, share: Share) -> float:
    """CPU seconds of verifying, opening and COPY alone."""
    keys = {each.name: VerifyKey(each.signer.alg, each.signer.public) for each in load.gateways}
    epochs = {}
    for message in load.openers:
        bundle = parse(message.payload)
        for part in bundle.epochs:
            epochs[bundle.chain, part.epoch] = part.open(bundle, {_RECIPIENT.kid: _RECIPIENT})
    row = (1, 2, 3, GLUCOSE, 100, _NOW_MS, None, _NOW_MS, 0, 0, 0, "F0:00:00:00:00:01", None, None)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE rows ({_COLUMNS})".encode())
        cpu = time.process_time()
        for message in load.measured:
            bundle = parse(message.payload)
            bundle.verify(keys[message.gateway])
            for sealed in bundle.parts:
                sealed.open(bundle, epochs[bundle.chain, sealed.epoch])
        with cursor.copy("COPY rows FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for _ in range(share.readings):
                copy.write_row(row)
        return time.process_time() - cpu
