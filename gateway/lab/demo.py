"""`make demo`: the whole path on one machine, with an outage and a SIGKILL, and a verdict from ledger and store.

Broker, wearables, receiver and gateway are processes of their own. Between gateway and broker stands a fault proxy,
which cuts the uplink. The verdict asks the gateway nothing: it compares the wearables' ledger, the bundles found on a
killed gateway's disk, and the receiver's store.
"""

import argparse
import asyncio
import fcntl
import io
import json
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live

from gateway.config import OutboxSection
from gateway.control.api import socket_path
from gateway.errors import ConfigError, GatewayError
from gateway.lab import screen, wearables
from gateway.lab.cloud import Cloud
from gateway.lab.ledger import Ledger
from gateway.lab.process import Child
from gateway.lab.proxy import Proxy
from gateway.lab.site import Site, build, free_port
from gateway.lab.verdict import Kill, Verdict, judge
from gateway.observe import http
from gateway.outbox.outbox import list_bundles

_ROOT = Path(".demo")
_SHORTEST_S = 15
_CYCLE_S = 60
_FRAME_S = 0.5
_LINE_S = 5.0
_NAMES = {"cgm": "CGM", "plx": "oximeter", "gls": "meter"}


class Demo:
    """One run: its processes, what it did to them, and what it saw."""

    def __init__(self, site: Site, console: Console, *, seed: int, settle_s: float = 15.0) -> None:
        self._site = site
        self._console = console
        self._seed = seed
        self._settle_s = settle_s
        self._proxy = Proxy(listen=site.uplink_port, to=site.broker_port)
        self._children: dict[str, Child] = {}
        self._streams: dict[str, str] = {}
        self._listed: dict[tuple[bytes, int], int] = {}
        self._cloud = Cloud(site.receiver_state)
        self._ledger = Ledger(site.ledger)
        self._kills: list[Kill] = []
        self._outages = 0
        self._uplink = "up"
        self._started = time.monotonic()
        self._next_line_s = 0.0
        self.first_verified_s: float | None = None
        """How long it took from the first process to the first verified reading."""
        self.portrait: screen.Scene | None = None
        """The screen in the middle of the outage, after the kill."""

    async def run(self, duration_s: float) -> Verdict:
        """Start everything, do the worst, wait for what is still under way, and judge. A signal ends it early."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            await self._start(stack)
            with Live(console=self._console, auto_refresh=False) as live:
                faults = asyncio.create_task(self._faults(duration_s or _CYCLE_S, again=not duration_s))
                await self._watch(live, duration_s, stop, faults)
                await self._end_faults(faults)
                return await self._settle(live)

    async def _watch(self, live: Live, duration_s: float, stop: asyncio.Event, faults: asyncio.Task[None]) -> None:
        """Show what happens until it is time to settle, a signal comes, or a fault could not be done."""
        end = time.monotonic() + duration_s - min(5.0, duration_s / 6) if duration_s else float("inf")
        while time.monotonic() < end and not stop.is_set() and not faults.done():
            self._show(live, "" if duration_s else "Ctrl-C ends it")
            await asyncio.sleep(_FRAME_S)

    async def _settle(self, live: Live) -> Verdict:
        """Judge what was measured until now, as soon as nothing of it is under way any more."""
        until_ms = time.time_ns() // 1_000_000
        deadline = time.monotonic() + self._settle_s
        verdict = self._judge(until_ms)
        while not verdict.passed and time.monotonic() < deadline:
            self._show(live, "waiting for what is under way")
            await asyncio.sleep(_FRAME_S)
            verdict = self._judge(until_ms)
        self._show(live, "done")
        return verdict

    async def _start(self, stack: AsyncExitStack) -> None:
        site = self._site
        self._streams = build(site, devices=wearables.DEVICES)
        await stack.enter_async_context(self._proxy)
        broker = ("gateway.lab.broker", "--pki", str(site.pki), "--port", str(site.broker_port))
        air = ("gateway.lab.wearables", "--hci", str(site.radio), "--ledger", str(site.ledger))
        seed = ("--seed", str(self._seed))
        receiver = ("gateway.cli.receiver", "run", "--config", str(site.receiver_config))
        await asyncio.gather(self._tool("broker", *broker), self._tool("wearables", *air, *seed))
        self._children["receiver"] = await Child.serve("receiver", *receiver, logs=site.logs)
        await self._start_gateway()

    async def _tool(self, name: str, *arguments: str) -> None:
        self._children[name] = await Child.start(name, *arguments, logs=self._site.logs)

    async def _start_gateway(self) -> None:
        gateway = ("gateway.cli.gateway", "run", "--config", str(self._site.gateway_config))
        self._children["gateway"] = await Child.serve("gateway", *gateway, logs=self._site.logs)

    async def _stop(self) -> None:
        for name in ("gateway", "receiver", "wearables", "broker"):
            if name in self._children:
                await self._children[name].stop()

    async def _faults(self, period_s: float, *, again: bool) -> None:
        """Cut the uplink for two fifths of the time, and in the middle of that kill the gateway."""
        while True:
            await asyncio.sleep(period_s * 0.25)
            self._proxy.cut()
            self._uplink = "CUT"
            self._outages += 1
            await asyncio.sleep(period_s * 0.25)
            await self._kill_gateway()
            await asyncio.sleep(period_s * 0.15)
            self._proxy.mend()
            self._uplink = "up"
            if not again:
                break
            await asyncio.sleep(period_s * 0.35)
        await asyncio.Event().wait()

    async def _end_faults(self, faults: asyncio.Task[None]) -> None:
        """Stop doing harm; an outage under way ends. Raises what a fault could not do."""
        faults.cancel()
        await asyncio.wait([faults])
        if not faults.cancelled():
            faults.result()
        if not self._children["gateway"].running:
            await self._start_gateway()
        self._proxy.mend()
        self._uplink = "up"

    async def _kill_gateway(self) -> None:
        fsync_p99_ms = await self._fsync_p99_ms()
        await self._children["gateway"].kill()
        self._kills.append(Kill(time.time_ns() // 1_000_000, OutboxSection().offline_tick_ms + fsync_p99_ms))
        self._list_disk()
        await self._start_gateway()

    async def _fsync_p99_ms(self) -> float:
        """The upper bound of the histogram bucket that holds the 99th percentile."""
        text = await http.fetch("/metrics", socket=socket_path(self._site.gateway_state))
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if sample.name == "iomt_gateway_outbox_fsync_seconds_bucket"
        ]
        total = buckets[-1][1]
        return next(bound for bound, count in buckets if count >= 0.99 * total) * 1000

    def _list_disk(self) -> None:
        """Remember every bundle on the gateway's disk, and how many readings of wearables it holds."""
        own = set(self._streams.values())
        for link, spans in list_bundles(self._site.outbox):
            self._listed[link.chain, link.no] = sum(span.count for span in spans if span.stream.hex() in own)

    def _judge(self, until_ms: int) -> Verdict:
        self._ledger.read()
        self._list_disk()
        committed = self._cloud.bundles()
        missing = sum(count for key, count in self._listed.items() if key not in committed)
        return judge(
            self._ledger.emissions,
            self._cloud.rows(),
            until_ms=until_ms,
            kills=self._kills,
            outages=self._outages,
            captured=sum(self._listed.values()),
            missing_after_fsync=missing,
            explained=self._cloud.explained(),
            quarantined=self._cloud.quarantined(),
        )

    def _show(self, live: Live, note: str) -> None:
        scene = self._scene(note)
        if self.first_verified_s is None and scene.lines:
            self.first_verified_s = scene.elapsed_s
        if self._uplink == "CUT" and self._kills:
            self.portrait = scene
        if self._console.is_terminal:
            live.update(screen.draw(scene), refresh=True)
        elif scene.elapsed_s >= self._next_line_s:
            self._next_line_s = scene.elapsed_s + _LINE_S
            self._console.print(screen.summary(scene), highlight=False)

    def _scene(self, note: str) -> screen.Scene:
        waiting, delivered = self._on_disk()
        lines = []
        told: set[str] = set()
        for latest in self._cloud.latest():
            stream = self._streams[latest.device]
            first = stream not in told
            told.add(stream)
            lines.append(
                screen.Line(
                    device=_NAMES[wearables.DEVICES[latest.device]] if first else "",
                    metric=latest.metric.replace("_", " "),
                    value=latest.value,
                    age_s=max(0.0, time.time() - latest.time_ms / 1000),
                    buffered=waiting[stream] if first else None,
                    delivered=delivered[stream] if first else None,
                    verified=latest.count,
                )
            )
        gateway = "running" if self._children["gateway"].running else "KILLED"
        elapsed_s = time.monotonic() - self._started
        return screen.Scene(elapsed_s=elapsed_s, uplink=self._uplink, gateway=gateway, note=note, lines=lines)

    def _on_disk(self) -> tuple[Counter[str], Counter[str]]:
        """Readings per stream on the gateway's disk: those that the receiver's store lacks, and those that it has."""
        committed = self._cloud.bundles()
        waiting: Counter[str] = Counter()
        delivered: Counter[str] = Counter()
        for link, spans in list_bundles(self._site.outbox):
            side = delivered if (link.chain, link.no) in committed else waiting
            side.update({span.stream.hex(): span.count for span in spans})
        return waiting, delivered


def main() -> None:
    """Command line of `make demo`."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.demo", description="The whole path on one machine.")
    parser.add_argument("--duration", type=float, default=30, metavar="SECONDS", help="0: until Ctrl-C")
    parser.add_argument("--seed", type=int, default=1, help="of the wearables' physiology")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON, on the last line")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="save a picture of the screen")
    arguments = parser.parse_args()
    try:
        with _folder(arguments.duration):
            verdict = asyncio.run(_run(arguments, Console()))
    except GatewayError as error:
        sys.exit(f"demo: {error}")
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
    sys.exit(0 if verdict.passed else 1)


@contextmanager
def _folder(duration_s: float) -> Iterator[None]:
    """An empty folder of our own. Raises `ConfigError` for a run that makes no sense or would disturb another."""
    if duration_s and not duration_s >= _SHORTEST_S:
        raise ConfigError(f"DURATION: {duration_s:g} s is too short for an outage; give {_SHORTEST_S} or more, or 0")
    with _ROOT.with_name(f"{_ROOT.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("another demo runs in this folder; wait for its end") from error
        shutil.rmtree(_ROOT, ignore_errors=True)
        yield


async def _run(arguments: argparse.Namespace, console: Console) -> Verdict:
    site = Site(_ROOT, broker_port=free_port(), uplink_port=free_port())
    demo = Demo(site, console, seed=arguments.seed)
    verdict = await demo.run(arguments.duration)
    console.print(screen.tell(verdict))
    if demo.first_verified_s is not None:
        console.print(f"First verified reading {demo.first_verified_s:.1f} s after the start.", highlight=False)
    if arguments.svg and demo.portrait:
        picture = Console(width=100, record=True, force_terminal=True, file=io.StringIO())
        picture.print(screen.draw(demo.portrait))
        picture.print(screen.tell(verdict))
        # Readers of the picture use a font of their own, not one from somebody's server.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", picture.export_svg(title="make demo"), flags=re.DOTALL)
        arguments.svg.write_text(svg)
    return verdict


if __name__ == "__main__":
    main()
