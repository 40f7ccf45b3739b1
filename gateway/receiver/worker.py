"""The receiver's shell: everything that waits, one commit, receipts at once, then the broker's acknowledgements."""

import asyncio
import itertools
import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from gateway.config import BrokerSection, IngestSection, ReceiverConfig
from gateway.envelope.keys import signer_for
from gateway.errors import ConnectionLostError, IdentityError, StoreError, UplinkError
from gateway.identity.files import load_private_key, load_recipient_key, load_registry
from gateway.identity.tls import client_context
from gateway.observe import http, systemd
from gateway.observe.metrics import ReceiverMetrics
from gateway.receiver.intake import Intake, Taken
from gateway.receiver.plan import Message
from gateway.receiver.sqlite import SqliteStore
from gateway.uplink import mqtt

_log = logging.getLogger(__name__)

_TOPICS = ("v1/gw/+/up/data", "v1/gw/+/up/urgent")
_CLIENT_ID = "receiver"
_SESSION_EXPIRY_S = 7 * 86_400
_BACKOFF_S = 0.2

T = TypeVar("T")


class Receiver:
    """Takes bundles from a broker into the store and answers with receipts.

    `key_list` is published, retained, to every gateway of the registry on every connection.
    """

    def __init__(
        self,
        broker: BrokerSection,
        ingest: IngestSection,
        *,
        tls: ssl.SSLContext,
        intake: Intake,
        key_list: bytes,
        metrics: ReceiverMetrics,
    ) -> None:
        self._broker = broker
        self._receive_maximum = ingest.receive_maximum
        self._silent_ms = (2 * ingest.heartbeat_s + 10) * 1000
        self._tls = tls
        self._intake = intake
        self._key_list = key_list
        self._metrics = metrics
        self._heard_ms = intake.store.last_received_ms()
        self._pubacks: list[tuple[str, asyncio.Future[int]]] = []
        self._delay_s = _BACKOFF_S
        self._thread = ThreadPoolExecutor(1, "store")
        metrics.silent_chains.set_function(self._silent)

    async def run(self) -> None:
        """Serve for ever, one connection after the other; only cancellation ends it, and not within a commit."""
        with self._thread:
            await self._connect_and_serve()

    async def _connect_and_serve(self) -> None:
        for endpoint in itertools.cycle(self._broker.endpoints):
            try:
                async with self._connection(endpoint) as connection, asyncio.TaskGroup() as tasks:
                    # A broker that kept the session delivers, and may want acknowledgements, before it answers this.
                    tasks.create_task(self._subscribe(connection))
                    tasks.create_task(self._serve(connection))
            except* UplinkError as group:
                self._lost(group.exceptions[0])
            finally:
                self._metrics.online.set(0)
            await asyncio.sleep(random.uniform(self._delay_s / 2, self._delay_s))
            self._delay_s = min(2 * self._delay_s, self._broker.backoff_max_s)

    def _lost(self, error: BaseException) -> None:
        cause = error.cause if isinstance(error, UplinkError) else UplinkError.cause
        self._metrics.reconnects.labels(cause=cause).inc()
        _log.warning("connection ended: %s", error, extra={"cause": cause})

    def _connection(self, endpoint: str) -> mqtt.Connection:
        return mqtt.Connection(
            endpoint,
            client_id=_CLIENT_ID,
            tls=self._tls,
            keepalive_s=self._broker.keepalive_s,
            timeout_s=self._broker.connect_timeout_s,
            clean_start=False,
            session_expiry_s=_SESSION_EXPIRY_S,
            receive_maximum=self._receive_maximum,
            will=None,
        )

    async def _subscribe(self, connection: mqtt.Connection) -> None:
        await connection.subscribe(*_TOPICS)
        self._delay_s = _BACKOFF_S
        self._metrics.online.set(1)
        _log.info("connected and subscribed")
        systemd.notify("READY=1")

    async def _serve(self, connection: mqtt.Connection) -> None:
        """Raises `UplinkError` when the connection has ended."""
        self._pubacks = []
        for gateway in sorted({gateway for gateway, _ in self._intake.registry.values()}):
            topic = f"v1/gw/{gateway}/down/keys"
            self._pubacks.append((topic, connection.publish(topic, self._key_list, retain=True)))
        await self._take_parked(connection)
        while True:
            waiting = await connection.receive(self._receive_maximum)
            taken = await self._take(connection, [Message(_gateway(each.topic), each.payload) for each in waiting])
            for message in waiting:
                message.ack()
            self._metrics.messages.inc(len(waiting))
            if taken.plan.epochs and taken.committed.parked:
                await self._take_parked(connection)

    async def _take_parked(self, connection: mqtt.Connection) -> None:
        """Take the parked bundles whose epochs have arrived by now."""
        after = 0
        store = self._intake.store
        while ready := await self._durably(partial(store.ready, after=after, limit=self._receive_maximum)):
            await self._take(connection, [message for _, message in ready])
            after = ready[-1][0]

    async def _take(self, connection: mqtt.Connection, messages: Sequence[Message]) -> Taken:
        now_ms = time.time_ns() // 1_000_000
        taken = await self._durably(partial(self._intake.take, messages, now_ms=now_ms))
        try:
            await self._publish(connection, taken.receipts)
        finally:
            self._report(taken, now_ms)
        return taken

    async def _durably(self, action: Callable[[], T]) -> T:
        """Run `action` in a thread until the database allows it; nothing is acknowledged before that."""
        delay_s = _BACKOFF_S
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, action)
            except StoreError as error:
                self._metrics.store_errors.inc()
                _log.error("nothing is taken until the store works again: %s", error)
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
            delay_s = min(2 * delay_s, self._broker.backoff_max_s)

    async def _publish(self, connection: mqtt.Connection, receipts: Sequence[tuple[str, bytes]]) -> None:
        """Send receipts, once the broker has acknowledged the previous ones: what waits there stays bounded."""
        for topic, puback in self._pubacks:
            try:
                async with asyncio.timeout(self._broker.connect_timeout_s):
                    code = await puback
            except TimeoutError:
                raise ConnectionLostError("the broker does not acknowledge what is published") from None
            if code >= mqtt.FAILURE:
                _log.error("the broker refused a publish", extra={"topic": topic, "reason": code})
        self._pubacks = []
        for gateway, receipt in receipts:
            topic = f"v1/gw/{gateway}/down/receipt"
            self._pubacks.append((topic, connection.publish(topic, receipt)))
        self._metrics.receipts.inc(len(receipts))

    def _report(self, taken: Taken, now_ms: int) -> None:
        plan, committed, metrics = taken.plan, taken.committed, self._metrics
        metrics.commit_seconds.observe(taken.commit_s)
        metrics.bundles_stored.inc(len(plan.bundles))
        metrics.readings_stored.inc(plan.readings - committed.repeated)
        metrics.redelivered.inc(plan.redelivered)
        metrics.repeated.inc(committed.repeated)
        metrics.parked.set(committed.parked)
        metrics.forks.inc(committed.forks)
        for place, each in enumerate(plan.quarantined):
            metrics.quarantined.labels(cause=each.cause).inc()
            if place < taken.unverified:
                metrics.verify_failures.labels(cause=each.cause).inc()
            extra = {"gateway": each.message.gateway, "cause": each.cause, "hash": each.hash[:8].hex()}
            _log.warning("quarantined", extra=extra)
        if plan.overflowed:
            metrics.verify_failures.labels(cause="parked-full").inc(plan.overflowed)
            _log.warning("no room to park bundles whose epoch is missing", extra={"bundles": plan.overflowed})
        for fork in plan.forks:
            extra = {"gateway": fork.bundle.gateway, "cause": fork.cause, "hash": fork.bundle.hash[:8].hex()}
            _log.error("a gateway's history contradicts itself", extra=extra)
        for bundle in plan.bundles:
            self._heard_ms[bundle.gateway] = now_ms

    def _silent(self) -> float:
        now_ms = time.time_ns() // 1_000_000
        return sum(now_ms - heard_ms > self._silent_ms for heard_ms in self._heard_ms.values())


def _gateway(topic: str) -> str:
    return topic.split("/")[2]


async def run(config: ReceiverConfig) -> None:
    """Run a receiver with everything that `config` names. Raises `GatewayError` if it cannot start."""
    try:
        key_list = config.receiver.key_list.read_bytes()
    except OSError as error:
        raise IdentityError(f"{config.receiver.key_list}: cannot be read: {error.strerror}") from error
    keys = [load_recipient_key(path) for path in config.receiver.recipient_keys]
    tls = client_context(config.tls.ca, config.tls.cert, config.tls.key)
    metrics = ReceiverMetrics()
    async with AsyncExitStack() as stack:
        store = SqliteStore.open(config.receiver.state_dir)
        stack.callback(store.close)
        intake = Intake(
            store=store,
            registry=load_registry(config.receiver.registry),
            recipient_keys={key.kid: key for key in keys},
            signer=signer_for(load_private_key(config.receiver.receipt_key)),
            parked_limit=config.ingest.parked_bundles,
        )
        if config.metrics.listen != "off":
            pages = {"/metrics": http.Page(metrics.render)}
            await stack.enter_async_context(http.serve(pages, listen=config.metrics.listen))
        receiver = Receiver(config.broker, config.ingest, tls=tls, intake=intake, key_list=key_list, metrics=metrics)
        await receiver.run()
