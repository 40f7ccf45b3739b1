"""A site at work: its processes, the proxy between gateway and broker, and what is seen of them from outside."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from gateway.config import GatewayConfig, load
from gateway.control.api import socket_path
from gateway.lab import small_disk, wearables
from gateway.lab.brokers import SiteBroker
from gateway.lab.cloud import Cloud
from gateway.lab.ledger import Ledger
from gateway.lab.process import Child
from gateway.lab.proxy import Proxy
from gateway.lab.samples import Samples
from gateway.lab.site import Site, build
from gateway.lab.stepped import write_offset
from gateway.lab.verdict import Kill, Verdict, judge
from gateway.observe import http
from gateway.outbox.outbox import list_bundles

_LOOK_S = 0.5


class Rig:
    """The processes of `site`, with `count` virtual wearables; `air` are more arguments of the wearables' process.

    `on_small_disk` needs root; `stepped_clock` lets `step_clock` work. The verdict asks nothing of the gateway: it
    compares the wearables' ledger, the bundles found on a killed gateway's disk, and the receiver's store.
    """

    def __init__(
        self,
        site: Site,
        broker: SiteBroker,
        *,
        count: int = 3,
        air: Sequence[str] = (),
        uplink_extra: str = "",
        gateway_extra: str = "",
        on_small_disk: bool = False,
        stepped_clock: bool = False,
    ) -> None:
        self.site = site
        self.broker = broker
        self.proxy = Proxy(listen=site.uplink_port, to=site.broker_port)
        self.cloud = Cloud(site.receiver_state)
        self.children: dict[str, Child] = {}
        self.devices = wearables.roster(count)
        """Profile by address."""
        self.streams: dict[str, str] = {}
        """Stream id (hex) by address."""
        self.kills: list[Kill] = []
        self.on_small_disk = on_small_disk
        """The gateway's state lies on a small file system of its own."""
        stepped = ("gateway.lab.stepped", str(site.clock)) if stepped_clock else ()
        self._gateway = (*stepped, "gateway.cli.gateway", "run", "--config", str(site.gateway_config))
        self._clock_offsets_ms = [0]
        self._air = ("--count", str(count), *air)
        self._extra = {"uplink_extra": uplink_extra, "gateway_extra": gateway_extra}
        self._ledger = Ledger(site.ledger)
        self._listed: dict[tuple[bytes, int], int] = {}

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Start everything; at the end stop everything, in order. Raises `GatewayError` for what does not start."""
        site = self.site
        async with AsyncExitStack() as stack:
            if self.on_small_disk:
                site.gateway_state.mkdir(mode=0o700, parents=True)
                stack.enter_context(small_disk.mounted(site.root / "disk", site.gateway_state))
            stack.push_async_callback(self._stop)
            self.streams = build(site, devices=self.devices, **self._extra)
            write_offset(site.clock, 0)
            await stack.enter_async_context(self.proxy)
            await asyncio.gather(self.start_broker(), self._start_wearables())
            await self.start_receiver()
            await self.start_gateway()
            yield

    async def _start_wearables(self) -> None:
        site = self.site
        files = ("--hci", str(site.radio), "--ledger", str(site.ledger), "--bonds", str(site.bonds))
        command = ("gateway.lab.wearables", *files, *self._air)
        self.children["wearables"] = await Child.start("wearables", *command, logs=site.logs)

    async def start_broker(self) -> None:
        """Start the broker and wait until it listens."""
        self.children["broker"] = await self.broker.start()

    async def start_receiver(self) -> None:
        """Start the receiver and wait until it has subscribed."""
        command = ("gateway.cli.receiver", "run", "--config", str(self.site.receiver_config))
        self.children["receiver"] = await Child.serve("receiver", *command, logs=self.site.logs)

    async def start_gateway(self) -> None:
        """Start the gateway and wait until it is ready."""
        self.children["gateway"] = await Child.serve("gateway", *self._gateway, logs=self.site.logs)

    async def spawn_gateway(self) -> None:
        """Start the gateway and do not wait for it."""
        command = (sys.executable, "-m", *self._gateway)
        self.children["gateway"] = await Child.run("gateway", *command, logs=self.site.logs)

    async def kill_gateway(self) -> int:
        """SIGKILL the gateway, and list what is on its disk; returns its exit status, -9 if that is what ended it."""
        exposure_ms = float(load(self.site.gateway_config, GatewayConfig).outbox.offline_tick_ms)
        with suppress(OSError):  # one that does not answer yet has taken nothing
            exposure_ms += (await self.gateway()).quantile_bound("iomt_gateway_outbox_fsync_seconds", 0.99) * 1000
        status = await self.children["gateway"].kill()
        self.kills.append(Kill(time.time_ns() // 1_000_000, exposure_ms))
        self._list_disk()
        return status

    def step_clock(self, offset_ms: int) -> None:
        """Set how far the gateway's wall clock is ahead."""
        self._clock_offsets_ms.append(offset_ms)
        write_offset(self.site.clock, offset_ms * 1_000_000)

    async def gateway(self) -> Samples:
        """What the gateway counts. Raises `OSError` if it does not answer."""
        return await Samples.fetch(socket_path(self.site.gateway_state))

    async def receiver(self) -> Samples:
        """What the receiver counts. Raises `OSError` if it does not answer."""
        return await Samples.fetch(self.site.receiver_metrics)

    async def status(self) -> dict[str, Any]:
        """What the gateway says of itself. Raises `OSError` if it does not answer."""
        page = await http.fetch("/v1/status", socket=socket_path(self.site.gateway_state))
        status: dict[str, Any] = json.loads(page)
        return status

    async def settle(self, *, outages: int, settle_s: float, show: Callable[[], None]) -> Verdict:
        """Judge what was measured until now, as soon as nothing of it is under way any more."""
        until_ms = time.time_ns() // 1_000_000
        deadline = time.monotonic() + settle_s
        while True:
            verdict = self._judge(until_ms, outages)
            show()
            if verdict.passed or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(_LOOK_S)

    def _judge(self, until_ms: int, outages: int) -> Verdict:
        self._ledger.read()
        self._list_disk()
        committed = self.cloud.bundles()
        missing = {key: count for key, count in self._listed.items() if key not in committed}
        explained = self.cloud.gaps(self.streams.values())
        for hole in self.cloud.holes():
            told = sum(missing.pop((hole.chain, no), 0) for no in hole.numbers)
            explained += max(told, sum(hole.counts.get(stream, 0) for stream in self.streams.values()))
        return judge(
            self._ledger.emissions,
            self.cloud.rows(),
            until_ms=until_ms,
            kills=self.kills,
            outages=outages,
            captured=sum(self._listed.values()),
            missing_after_fsync=sum(missing.values()),
            explained=explained,
            quarantined=self.cloud.quarantined(),
            clock_offsets_ms=list(dict.fromkeys(self._clock_offsets_ms)),
        )

    def _list_disk(self) -> None:
        """Remember every bundle on the gateway's disk, and how many readings of wearables it holds."""
        own = set(self.streams.values())
        for link, spans in list_bundles(self.site.outbox):
            self._listed[link.chain, link.no] = sum(span.count for span in spans if span.stream.hex() in own)

    async def _stop(self) -> None:
        for name in ("gateway", "receiver", "wearables", "broker"):
            if name in self.children:
                await self.children[name].stop()
