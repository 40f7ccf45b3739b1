"""`iomt-gateway prove`: the real system under faults, a schedule of them, and a verdict with evidence.

The run is only as good as its faults: one that did not take effect makes it invalid, never green.
"""

import asyncio
import platform
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from gateway.config import GatewayConfig, IdentitySection, load
from gateway.envelope.keys import Signer, signer_for
from gateway.errors import ConfigError, GatewayError
from gateway.identity.files import load_certificate
from gateway.identity.rung import open_key
from gateway.lab import small_disk
from gateway.lab.brokers import best
from gateway.lab.faults import FAULTS
from gateway.lab.faults.fault import KEEPALIVE_S, Effect, watch
from gateway.lab.report import Occurrence, Report, write
from gateway.lab.rig import Rig
from gateway.lab.schedule import Planned, fitting, plan, shortest_s
from gateway.lab.site import Site, free_port, own_folder
from gateway.lab.verdict import Verdict
from gateway.lab.wearables import MOST

REPORT = Path("prove-report.json")
_ROOT = Path(".prove")
_UPLINK = f"keepalive_s = {KEEPALIVE_S}\nack_timeout_s = 4.0\nreceipt_timeout_s = 5.0\nconnect_timeout_s = 5.0\n"
_OUTBOX = """
[outbox]
segment_bytes = 1_048_576
capacity_bytes = 16_777_216
reserve_bytes = 1_048_576
"""
"""So small that a run sees segments begin and go, and that they fit on a small disk."""
_WELL_S = 60.0
_UNDER_WAY = 8
"""So many bundles may wait for a receipt at any time."""
_LINE_S = 5.0
_MOST_S = 30 * 86_400
_MOST_RATE = 1_000
_BACKLOG_MIN = 60
_LAG_MOST_MIN = 60_000
_OXIMETER_VALUES = 2.2
"""Values per interval: two, and as many again in every tenth."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is to be; the same order gives the same schedule. Raises `ConfigError` for what makes no sense."""

    seconds: float
    wearables: int
    rate: float
    """Readings per second and wearable."""
    seed: int
    faults: tuple[str, ...]
    settle_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= _MOST_S:
            raise ConfigError(f"--seconds: above 0, at most {_MOST_S}")
        if not 1 <= self.wearables <= MOST:
            raise ConfigError(f"--wearables: 1 to {MOST}")
        if not 0 < self.rate <= _MOST_RATE:
            raise ConfigError(f"--rate: above 0, at most {_MOST_RATE} readings/s per wearable")


def choose(text: str) -> tuple[str, ...]:
    """The faults that a comma-separated list names; `all` is every one. Raises `ConfigError` that lists the names."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if names == ("all",):
        return tuple(FAULTS)
    if not names or not FAULTS.keys() >= set(names):
        known = "\n".join(f"  {fault.name:18}  {fault.does}" for fault in FAULTS.values())
        wrong = ", ".join(name for name in names if name not in FAULTS)
        head = f"--faults: {wrong}: no such fault" if wrong not in {"", "help"} else "--faults takes names, by commas"
        raise ConfigError(f"{head}; there are `all` and\n{known}")
    return names


def rig_for(order: Order, root: Path, kind: type[Rig] = Rig) -> Rig:
    """A rig in the empty directory `root`, with wearables that measure as ordered."""
    port = free_port()
    site = Site(root, broker_port=port, uplink_port=free_port(), receiver_metrics=f"127.0.0.1:{free_port()}")
    # A CGM's minutes pass faster until its clock has caught up, which must not happen within the run.
    lag_min = min(int(order.rate * (order.seconds * 2 + order.settle_s)) + 1, _LAG_MOST_MIN)
    air = {
        "--seed": order.seed,
        "--lag-min": lag_min,
        "--session-age-s": (lag_min + _BACKLOG_MIN) * 60,
        "--minute-s": 1 / order.rate,
        "--interval-min": 1,
        "--oximeter-interval-s": _OXIMETER_VALUES / order.rate,
        "--meter-interval-s": 1 / order.rate,
    }
    arguments = [str(part) for pair in air.items() for part in pair]
    return kind(
        site,
        best(site),
        count=order.wearables,
        air=arguments,
        uplink_extra=_UPLINK,
        gateway_extra=_OUTBOX,
        on_small_disk="full-disk" in order.faults and not small_disk.impossible(root.parent),
        stepped_clock="clock-step" in order.faults,
    )


class Run:
    """One run on one rig; `tell` takes a line of progress. Raises `ConfigError` for an order that cannot be done."""

    def __init__(self, order: Order, rig: Rig, tell: Callable[[str], None]) -> None:
        self._order = order
        self._rig = rig
        self._tell = tell
        chosen = {name: FAULTS[name] for name in order.faults}
        self.skipped = {name: why for name, fault in chosen.items() if (why := fault.impossible(rig))}
        self._faults = {name: fault for name, fault in chosen.items() if name not in self.skipped}
        if not self._faults:
            raise ConfigError(f"none of these faults can be done here: {_reasons(self.skipped)}")
        self._plan = self._drawn()
        self._occurrences: list[Occurrence] = []
        self._started_s = time.monotonic()
        self._next_line_s = 0.0

    def _drawn(self) -> tuple[Planned, ...]:
        """The schedule: what was named, or, of every fault, those for which there is time."""
        order, chance = self._order, random.Random(self._order.seed)
        costs = {name: fault.cost for name, fault in self._faults.items()}
        if set(order.faults) == set(FAULTS):
            # With time for none of them, `plan` says so.
            fit = fitting(costs, seconds=order.seconds, chance=chance) or tuple(costs)
            why = f"no time for it in {order.seconds:g} s; --seconds {shortest_s(costs):.0f} is enough for all"
            self.skipped |= {name: why for name in costs if name not in fit}
            costs = {name: costs[name] for name in fit}
        return plan(costs, seconds=order.seconds, chance=chance)

    async def run(self) -> Report:
        """Do it all. The first signal ends it in order: `CancelledError` comes out once nothing runs any more."""
        _cancel_on_signal()
        started_ms = time.time_ns() // 1_000_000
        trouble = ""
        async with self._rig.at_work():
            try:
                await self._do_all()
            except GatewayError as error:
                trouble = str(error)
            verdict = await self._rig.settle(outages=0, settle_s=self._order.settle_s, show=self._show)
        return self._report(verdict, started_ms, trouble)

    async def _do_all(self) -> None:
        """Raises `GatewayError` if a process does not come up any more."""
        self._tell(f"{self._order.wearables} wearables, {len(self._plan)} faults; waiting until all is well")
        if await self._until_well() is None:
            raise GatewayError(
                f"not every wearable is linked and heard within {_WELL_S:.0f} s; see {self._rig.site.logs}"
            )
        self._started_s = time.monotonic()
        for planned in self._plan:
            await self._idle_until(planned.at_s)
            await self._do(planned)
        await self._idle_until(self._order.seconds)

    async def _do(self, planned: Planned) -> None:
        at_s = self._elapsed_s
        self._line(f"{planned.name} ...")
        fault = self._faults[planned.name]
        try:
            effect = await fault.inject(self._rig, planned.hold_s, random.Random(planned.seed))
        except OSError as error:
            effect = Effect(took=False, seen=f"could not be done or seen: {error}")
            self._rig.proxy.mend()
        well_s = await self._until_well()
        occurrence = Occurrence(
            name=planned.name,
            does=fault.does,
            at_s=round(at_s, 1),
            took_effect=effect.took,
            seen=effect.seen,
            broken=effect.broken or ("" if well_s is not None else f"not well again within {_WELL_S:.0f} s"),
            well_again_s=None if well_s is None else round(well_s, 1),
        )
        self._occurrences.append(occurrence)
        self._line(f"{planned.name}: {occurrence.outcome}")

    async def _until_well(self) -> float | None:
        """Seconds until all are linked, the backlog is gone and new bundles are receipted; None if not in time."""
        started_s = time.monotonic()
        first: tuple[str, int] | None = None

        async def well() -> bool:
            nonlocal first
            self._show()
            status = await self._rig.status()
            now = status["chain"], status["bundles_receipted"]
            if first is None or first[0] != now[0]:
                first = now
            linked = all(device["state"] == "link-up" for device in status["devices"])
            drained = status["bundles_waiting"] <= _UNDER_WAY
            return bool(status["online"] and linked and drained and now > first)

        try:
            done = await watch(well, bool, within_s=_WELL_S)
        except OSError:
            done = False
        return time.monotonic() - started_s if done else None

    async def _idle_until(self, at_s: float) -> None:
        while (left_s := at_s - self._elapsed_s) > 0:
            await asyncio.sleep(min(left_s, 1.0))
            self._show()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _show(self) -> None:
        if self._elapsed_s >= self._next_line_s:
            self._line(f"{sum(latest.count for latest in self._rig.cloud.latest())} readings verified and stored")

    def _line(self, text: str) -> None:
        self._next_line_s = self._elapsed_s + _LINE_S
        self._tell(f"{self._elapsed_s:7.1f} s  {text}")

    def _report(self, verdict: Verdict, started_ms: int, trouble: str) -> Report:
        order = self._order
        return Report(
            started_ms=started_ms,
            seconds=order.seconds,
            wearables=order.wearables,
            rate=order.rate,
            seed=order.seed,
            broker=self._rig.broker.name,
            machine=f"{platform.platform()}, Python {platform.python_version()}",
            verdict=verdict,
            planned=len(self._plan),
            occurrences=tuple(self._occurrences),
            skipped=self.skipped,
            trouble=trouble,
        )


def _cancel_on_signal() -> None:
    """Let the first signal cancel this task; more of them change nothing: the end takes its time."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this runs in one
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, end)


def _reasons(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in skipped.items())


def execute(order: Order, signing: IdentitySection | None, console: Console) -> Report:
    """Do a run in `.prove`, tell it, and leave the signed report in this directory.

    `signing` is the identity of the gateway that signs the report; None: the run's own, which is thrown away.
    Raises `GatewayError`, and `KeyboardInterrupt` once everything has ended after a signal.
    """
    with own_folder(_ROOT):
        rig = rig_for(order, _ROOT)
        run = Run(order, rig, partial(console.print, soft_wrap=True, highlight=False, markup=False))
        given = None if signing is None else _signer(signing)
        try:
            report = asyncio.run(run.run())
        except asyncio.CancelledError:
            console.print("Ended early; nothing is proven.")
            raise KeyboardInterrupt from None
        signer, certificate = given or _signer(load(rig.site.gateway_config, GatewayConfig).identity)
    for line, style in report.tell():
        console.print(line, style=style or None, soft_wrap=True, highlight=False, markup=False)
    write(report, REPORT, signer, certificate)
    console.print(f"{REPORT}: the report, signed by the key {signer.kid.hex()}", soft_wrap=True, highlight=False)
    return report


def _signer(identity: IdentitySection) -> tuple[Signer, bytes]:
    return signer_for(open_key(identity, identity.signing_key)), load_certificate(identity.signing_cert)
