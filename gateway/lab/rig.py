"""A site at work: its processes, the proxy between gateway and broker, and what is seen of them from outside."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from gateway.config import GatewayConfig, load
from gateway.control.api import socket_path
from gateway.lab import wearables
from gateway.lab.brokers import SiteBroker
from gateway.lab.cloud import Cloud
from gateway.lab.ledger import Ledger
from gateway.lab.process import Child
from gateway.lab.proxy import Proxy
from gateway.lab.samples import Samples
from gateway.lab.site import Site, build
from gateway.lab.verdict import Kill, Verdict, judge
from gateway.observe import http
from gateway.outbox.outbox import list_bundles

_LOOK_S = 0.5


class Rig:
    """The processes of `site`, with `count` virtual wearables; `air` are more arguments of the wearables' process.

    The verdict asks the gateway nothing: it compares the wearables' ledger, the bundles found on a killed gateway's
    disk, and the receiver's store.
    """

    def __init__(
        self, site: Site, broker: SiteBroker, *, count: int = 3, air: Sequence[str] = (), uplink_extra: str = ""
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
        self._air = ("--count", str(count), *air)
        self._uplink_extra = uplink_extra
        self._ledger = Ledger(site.ledger)
        self._listed: dict[tuple[bytes, int], int] = {}

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Start everything; at the end stop everything, in order. Raises `GatewayError` for what does not start."""
        site = self.site
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            self.streams = build(site, devices=self.devices, uplink_extra=self._uplink_extra)
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
        command = ("gateway.cli.gateway", "run", "--config", str(self.site.gateway_config))
        self.children["gateway"] = await Child.serve("gateway", *command, logs=self.site.logs)

    async def kill_gateway(self) -> int:
        """SIGKILL the gateway, and list what is on its disk; returns its exit status, -9 if that is what ended it."""
        exposure_ms = float(load(self.site.gateway_config, GatewayConfig).outbox.offline_tick_ms)
        with suppress(OSError):  # one that does not answer yet has taken nothing
            exposure_ms += (await self.gateway()).quantile_bound("iomt_gateway_outbox_fsync_seconds", 0.99) * 1000
        status = await self.children["gateway"].kill()
        self.kills.append(Kill(time.time_ns() // 1_000_000, exposure_ms))
        self._list_disk()
        return status

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
        missing = sum(count for key, count in self._listed.items() if key not in committed)
        return judge(
            self._ledger.emissions,
            self.cloud.rows(),
            until_ms=until_ms,
            kills=self.kills,
            outages=outages,
            captured=sum(self._listed.values()),
            missing_after_fsync=missing,
            explained=self.cloud.explained(),
            quarantined=self.cloud.quarantined(),
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
