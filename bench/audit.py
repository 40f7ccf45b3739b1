"""`iomt-receiver audit` over an archive in SQLite: by one process and by one for each core, bundles of two shapes."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench._measure import spread
from gateway.envelope.keys import RecipientKey, VerifyKey
from gateway.lab.fleet import Shape, SimulatedGateway, ticks
from gateway.receiver.audit import audit
from gateway.receiver.intake import Intake
from gateway.receiver.judging import Registry, judging
from gateway.receiver.plan import Message
from gateway.receiver.sqlite import SqliteStore, reading

_NOW_MS = 1_790_000_000_000
_AT_ONCE = 256
_ROUNDS = 3
_GATEWAYS = 4
_RECIPIENT = RecipientKey(50, bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Load:
    """What the archive holds."""

    name: str
    shape: Shape
    bundles: int

    @property
    def readings(self) -> int:
        """Of all bundles."""
        return self.bundles * self.shape.streams * self.shape.readings


_LOADS = (Load("one reading", Shape(1, 1), 16_000), Load("64 streams of 16", Shape(64, 16), 1_000))


def run() -> dict[str, Any]:
    """Measure."""
    results: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    cores = os.cpu_count() or 1
    for load in _LOADS:
        rates: dict[int, list[float]] = {}
        with TemporaryDirectory(dir=".", prefix=".bench-") as root:
            registry = _fill(Path(root), load)
            cpu_s = []
            for _ in range(_ROUNDS):
                started_s = time.process_time()
                rates.setdefault(1, []).append(load.bundles / _audit(Path(root), registry, load, 1))
                cpu_s.append(time.process_time() - started_s)
                rates.setdefault(cores, []).append(load.bundles / _audit(Path(root), registry, load, cores))
        results[f"{load.name}, CPU"] = spread([1e6 * each / load.bundles for each in cpu_s], "µs/bundle")
        for jobs, values in rates.items():
            name = f"{load.name}, {jobs} process{'es' * (jobs > 1)}"
            results[f"{name}, bundles/s"] = spread(values, "bundles/s")
            readings = [value * load.readings / load.bundles for value in values]
            results[f"{name}, readings/s"] = spread(readings, "readings/s")
            results[f"{name}, 10 million readings"] = spread([10e6 / 60 / value for value in readings], "minutes")
        medians = [float(spread(values, "")["median"]) for values in rates.values()]
        ratios[f"{load.name}: {cores} processes / one"] = medians[-1] / medians[0]
    return {"results": results, "ratios": ratios}


def _fill(directory: Path, load: Load) -> Registry:
    """An archive of so many bundles; the signers."""
    gateways = [SimulatedGateway(f"sim-{number}", _RECIPIENT.recipient) for number in range(_GATEWAYS)]
    registry = {each.signer.kid: (each.name, VerifyKey(each.signer.alg, each.signer.public)) for each in gateways}
    with closing(SqliteStore.open(directory)) as store:
        intake = Intake(
            store=store,
            registry=registry,
            recipient_keys={_RECIPIENT.kid: _RECIPIENT},
            signer=gateways[0].signer,
            parked_limit=1,
            parked_per_gateway=1,
        )
        for messages in _batches(ticks(gateways, load.shape, load.bundles // _GATEWAYS, now_ms=_NOW_MS)):
            intake.take(messages, now_ms=_NOW_MS)
    return registry


def _batches(messages: Iterator[Message]) -> Iterator[Sequence[Message]]:
    while batch := list(islice(messages, _AT_ONCE)):
        yield batch


def _audit(directory: Path, registry: Registry, load: Load, jobs: int) -> float:
    """Seconds that it takes, starting processes included."""
    started_s = time.perf_counter()
    with judging(registry, jobs) as judge, reading(directory) as archive:
        report = audit(archive, judge, stream=None, on_progress=lambda *_: None)
    assert (report["verdict"], report["verified"]) == ("clean", load.bundles)
    return time.perf_counter() - started_s
