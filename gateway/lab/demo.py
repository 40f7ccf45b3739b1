"""`make demo`: the whole path on one machine, with an outage and a SIGKILL, and a verdict from ledger and store.

Broker, wearables, receiver and gateway are processes of their own. Between gateway and broker stands a fault proxy,
which cuts the uplink. The verdict asks the gateway nothing: it compares the wearables' ledger, the bundles found on a
killed gateway's disk, and the receiver's store.
"""

import argparse
import asyncio
import io
import json
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live

from gateway.errors import ConfigError, GatewayError
from gateway.lab import screen
from gateway.lab.brokers import EmbeddedBroker
from gateway.lab.rig import Rig
from gateway.lab.site import Site, free_port, own_folder
from gateway.lab.verdict import Verdict
from gateway.outbox.outbox import list_bundles

_ROOT = Path(".demo")
_SHORTEST_S = 15
_CYCLE_S = 60
_FRAME_S = 0.5
_LINE_S = 5.0
_NAMES = {"cgm": "CGM", "plx": "oximeter", "gls": "meter"}


class Demo:
    """One run: what it does to the site, and what it shows of it."""

    def __init__(self, rig: Rig, console: Console, *, settle_s: float = 15.0) -> None:
        self._rig = rig
        self._console = console
        self._settle_s = settle_s
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
        async with self._rig.at_work():
            with Live(console=self._console, auto_refresh=False) as live:
                faults = asyncio.create_task(self._faults(duration_s or _CYCLE_S, again=not duration_s))
                await self._watch(live, duration_s, stop, faults)
                await self._end_faults(faults)
                waiting = partial(self._show, live, "waiting for what is under way")
                verdict = await self._rig.settle(outages=self._outages, settle_s=self._settle_s, show=waiting)
                self._show(live, "done")
                return verdict

    async def _watch(self, live: Live, duration_s: float, stop: asyncio.Event, faults: asyncio.Task[None]) -> None:
        """Show what happens until it is time to settle, a signal comes, or a fault could not be done."""
        end = time.monotonic() + duration_s - min(5.0, duration_s / 6) if duration_s else float("inf")
        while time.monotonic() < end and not stop.is_set() and not faults.done():
            self._show(live, "" if duration_s else "Ctrl-C ends it")
            await asyncio.sleep(_FRAME_S)

    async def _faults(self, period_s: float, *, again: bool) -> None:
        """Cut the uplink for two fifths of the time, and in the middle of that kill the gateway."""
        while True:
            await asyncio.sleep(period_s * 0.25)
            self._rig.proxy.cut()
            self._uplink = "CUT"
            self._outages += 1
            await asyncio.sleep(period_s * 0.25)
            await self._rig.kill_gateway()
            await self._rig.start_gateway()
            await asyncio.sleep(period_s * 0.15)
            self._rig.proxy.mend()
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
        if not self._rig.children["gateway"].running:
            await self._rig.start_gateway()
        self._rig.proxy.mend()
        self._uplink = "up"

    def _show(self, live: Live, note: str) -> None:
        scene = self._scene(note)
        if self.first_verified_s is None and scene.lines:
            self.first_verified_s = scene.elapsed_s
        if self._uplink == "CUT" and self._rig.kills:
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
        for latest in self._rig.cloud.latest():
            stream = self._rig.streams[latest.device]
            first = stream not in told
            told.add(stream)
            lines.append(
                screen.Line(
                    device=_NAMES[self._rig.devices[latest.device]] if first else "",
                    metric=latest.metric.replace("_", " "),
                    value=latest.value,
                    age_s=max(0.0, time.time() - latest.time_ms / 1000),
                    buffered=waiting[stream] if first else None,
                    delivered=delivered[stream] if first else None,
                    verified=latest.count,
                    backfilled=latest.backfilled,
                )
            )
        gateway = "running" if self._rig.children["gateway"].running else "KILLED"
        elapsed_s = time.monotonic() - self._started
        return screen.Scene(elapsed_s=elapsed_s, uplink=self._uplink, gateway=gateway, note=note, lines=lines)

    def _on_disk(self) -> tuple[Counter[str], Counter[str]]:
        """Readings per stream on the gateway's disk: those that the receiver's store lacks, and those that it has."""
        committed = self._rig.cloud.bundles()
        waiting: Counter[str] = Counter()
        delivered: Counter[str] = Counter()
        for link, spans in list_bundles(self._rig.site.outbox):
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
        if arguments.duration and not arguments.duration >= _SHORTEST_S:
            raise ConfigError(
                f"DURATION: {arguments.duration:g} s is too short for an outage; give {_SHORTEST_S} or more, or 0"
            )
        with own_folder(_ROOT):
            verdict = asyncio.run(_run(arguments, Console()))
    except GatewayError as error:
        sys.exit(f"demo: {error}")
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
    sys.exit(0 if verdict.passed else 1)


async def _run(arguments: argparse.Namespace, console: Console) -> Verdict:
    site = Site(_ROOT, broker_port=free_port(), uplink_port=free_port())
    rig = Rig(site, EmbeddedBroker(site), air=("--seed", str(arguments.seed)))
    demo = Demo(rig, console)
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
