"""A cloud for a fleet, on loopback: three NATS nodes as shipped, PostgreSQL, and workers as installed."""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from gateway.errors import ConfigError, UplinkError
from gateway.identity.files import load_recipient_key
from gateway.identity.tls import client_context
from gateway.lab.fleet import SimulatedGateway, publish, register
from gateway.lab.nats import NODES, Nodes
from gateway.lab.pki import make_dev_pki
from gateway.lab.postgres import Cluster
from gateway.lab.process import Child
from gateway.lab.site import receiver_toml
from gateway.receiver.plan import Message
from gateway.uplink.mqtt import Connection

_RESTART_S = 30.0
_SILENT_S = 60.0
_STORED = "SELECT coalesce(sum(last - first + 1), 0)::bigint FROM iomt.bundle_runs"


class CloudRig:
    """`gateways` are the names of simulated gateways. An asynchronous context manager that ends everything.

    Raises `ConfigError` where nats-server or PostgreSQL are not installed.
    """

    def __init__(self, root: Path, gateways: Iterable[str]) -> None:
        self._root = root
        self.pki = root / "pki"
        make_dev_pki(self.pki, [])
        recipient = load_recipient_key(self.pki / "recipient.key").recipient
        self.gateways = [SimulatedGateway(name, recipient) for name in gateways]
        register(self.pki / "registry.json", self.gateways)
        self.nodes = Nodes(root / "nats", self.pki, [each.name for each in self.gateways])
        self.database = Cluster()
        self.workers: dict[str, Child] = {}
        self.url = ""
        self._connection: psycopg.Connection | None = None
        self._stack = AsyncExitStack()
        self._tls = client_context(self.pki / "ca.crt", self.pki / "receiver.crt", self.pki / "receiver.key")

    async def __aenter__(self) -> Self:
        """Start nodes and database; no worker yet."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.nodes.stop)
            for number in range(NODES):
                await self.nodes.start(number)
            stack.enter_context(self.database)
            stack.callback(self._forget_connection)
            self.url = self.database.create("fleet")
            await self.nodes.prepare(self._tls)
            stack.push_async_callback(self._stop_workers)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        await self._stack.aclose()

    async def start_worker(self, name: str) -> Child:
        """Start a worker, or start it again."""
        config = self._root / f"{name}.toml"
        endpoints = ", ".join(f'"{each}"' for each in self.nodes.mqtt)
        servers = ", ".join(f'"{each}"' for each in self.nodes.servers)
        state = self._root / f"{name}-state"
        text = receiver_toml(self.pki, state, broker=f'endpoints = [{endpoints}]\nclient_id = "{name}"')
        text += f'\n[jetstream]\nservers = [{servers}]\nmax_bytes = {1 << 30}\n\n[store]\nurl = "{self.url}"\n'
        config.write_text(text, encoding="utf-8")
        arguments = ("gateway.cli.receiver", "run", "--config", str(config))
        self.workers[name] = await Child.serve(name, *arguments, logs=self._root)
        return self.workers[name]

    async def restart_node(self, number: int) -> None:
        """Start a killed node and wait until the cluster is whole."""
        await self.nodes.start(number)
        await self.nodes.prepare(self._tls)

    async def kill_database(self) -> None:
        """SIGKILL PostgreSQL, then start it again as soon as it lets itself be started."""
        self.database.stop(signal.SIGKILL)
        deadline = time.monotonic() + _RESTART_S
        while True:
            try:
                await asyncio.to_thread(self.database.start)
            except ConfigError:  # what its processes shared is still in use by those that have not noticed
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    def connection(self, endpoint: str, client_id: str) -> Connection:
        """To one node, allowed to publish for every gateway."""
        return Connection(
            endpoint,
            client_id=client_id,
            tls=self._tls,
            keepalive_s=60,
            timeout_s=10,
            clean_start=True,
            session_expiry_s=0,
            receive_maximum=100,
            will=None,
        )

    async def send(self, messages: Sequence[Message], acknowledged: Callable[[Message], None] = lambda _: None) -> None:
        """Publish until the cluster has acknowledged every message: what one node did not is sent to the next.

        Raises `UplinkError` if no node does for a minute.
        """
        left = deque(messages)
        heard_s = time.monotonic()

        def count(message: Message) -> None:
            nonlocal heard_s
            heard_s = time.monotonic()
            left.popleft()
            acknowledged(message)

        for endpoint in cycle(self.nodes.mqtt):
            try:
                async with self.connection(endpoint, "load") as connection:
                    to = dict.fromkeys((each.gateway for each in left), connection)
                    await publish(to.__getitem__, tuple(left), count)
            except UplinkError:
                if time.monotonic() > heard_s + _SILENT_S:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    def stored(self) -> int:
        """Bundles that are committed. Raises `psycopg.Error` while the database is away."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.url, autocommit=True)
        [(count,)] = self._connection.execute(_STORED).fetchall()
        return int(count)

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _stop_workers(self) -> None:
        for child in self.workers.values():
            await child.stop()
