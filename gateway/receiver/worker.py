"""The receiver's shell: everything that waits, one commit, receipts at once, then the broker's acknowledgements."""

import asyncio
import datetime as dt
import itertools
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from gateway.envelope.keys import signer_for
from gateway.errors import ConnectionLostError, SignatureError, SignerError, StoreError, UplinkError
from gateway.identity.files import load_private_key
from gateway.identity.tls import scrape_context
from gateway.observe import http, systemd
from gateway.observe.metrics import ReceiverMetrics
from gateway.observe.progress import Pulse
from gateway.observe.throttle import Throttle
from gateway.receiver.births import Births
from gateway.receiver.config import IngestSection, JetStreamSection, ReceiverBrokerSection, ReceiverConfig
from gateway.receiver.fleet import RecipientKeys
from gateway.receiver.intake import Intake, Taken
from gateway.receiver.plan import Last, Message
from gateway.receiver.registry import Registry
from gateway.receiver.reloading import Files
from gateway.receiver.silence import Silence
from gateway.receiver.stores import open_store
from gateway.uplink import client, mqtt
from gateway.uplink.backoff import Backoff, first_of

if TYPE_CHECKING:
    from gateway.receiver.jetstream import JetStream

    Transport = mqtt.Connection | JetStream

_log = logging.getLogger(__name__)

_STATUS = "/status"
_BIRTHS = "v1/gw/+/status"
_TOPICS = ("v1/gw/+/up/data", "v1/gw/+/up/urgent")
_SESSION_EXPIRY_S = 7 * 86_400
_BACKOFF_S = 0.2
_SILENCE_CHECK_S = 5.0
_SAY_AGAIN_S = 60.0
_STEPS = 4
"""That many times a broker may take `connect_timeout_s`: two dialects or nodes, the subscription, the end before."""

_BUNCH_BYTES = 1 << 17
"""Of bundles in one transaction; at least one."""

T = TypeVar("T")


class Receiver:
    """Takes bundles from a broker into the store and answers with receipts.

    `key_list` is published, retained, to every gateway of the registry on every connection. With `births`, the signers
    of gateways are learned from what they say of themselves.
    """

    def __init__(
        self,
        broker: ReceiverBrokerSection,
        ingest: IngestSection,
        *,
        tls: ssl.SSLContext,
        intake: Intake,
        key_list: bytes,
        metrics: ReceiverMetrics,
        jetstream: JetStreamSection | None = None,
        births: Births | None = None,
    ) -> None:
        self._broker = broker
        self._jetstream = jetstream
        self._receive_maximum = ingest.receive_maximum
        self._tls = tls
        self._intake = intake
        self._key_list = key_list
        self._metrics = metrics
        self._births = births
        self._key_list_changed = asyncio.Event()
        self._renewed = asyncio.Event()
        self._silence = Silence(intake.store.last_received_ms(), (2 * ingest.heartbeat_s + 10) * 1000)
        self._throttle = Throttle(_SAY_AGAIN_S)
        self._pubacks: list[tuple[str, asyncio.Future[int]]] = []
        self._backoff = Backoff(broker.backoff_max_s, random.uniform)
        self._online_since_s: float | None = None
        self._thread = ThreadPoolExecutor(1, "store")
        self._pulse, self._silence_pulse = Pulse(), Pulse()
        self.pulses = {"intake": self._pulse, "silence": self._silence_pulse}
        """What a watchdog should see of it."""
        metrics.silent_chains.set_function(lambda: len(self._silence.silent(_now_ms())))

    async def run(self) -> None:
        """Serve for ever, one connection after the other; only cancellation ends it, and not within a commit."""
        with self._thread:
            watching = asyncio.create_task(self._watch_silence())
            try:
                await self._connect_and_serve()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _watch_silence(self) -> None:
        """Tell which gateways fall silent; those that another receiver of this store hears are not."""
        while True:
            silent = self._silence.silent(_now_ms())
            heard_ms = await self._durably(self._intake.store.last_received_ms, self._silence_pulse) if silent else {}
            fallen, back = self._silence.changes(heard_ms, _now_ms())
            for gateway, last_ms in fallen.items():
                extra = {"gateway": gateway, "silent_s": (_now_ms() - last_ms) // 1000}
                _log.error("a gateway has fallen silent: nothing arrives, not even its heartbeat", extra=extra)
            for gateway in back:
                _log.warning("a gateway that was silent is heard again", extra={"gateway": gateway})
            self._silence_pulse.expect(_SILENCE_CHECK_S)
            await asyncio.sleep(_SILENCE_CHECK_S)

    async def _connect_and_serve(self) -> None:
        for endpoint in itertools.cycle(self._broker.endpoints):
            pause_s = 0.0
            self._pulse.expect(_STEPS * self._broker.connect_timeout_s)
            try:
                async with self._connection(endpoint) as connection, asyncio.TaskGroup() as tasks:
                    # A broker that kept the session delivers, and may want acknowledgements, before it answers this.
                    tasks.create_task(self._subscribe(connection))
                    tasks.create_task(self._keep_telling_keys(connection))
                    tasks.create_task(self._make_way())
                    await self._serve(connection)
            except* UplinkError as errors:
                pause_s = self._lost(first_of(errors))
            finally:
                self._metrics.online.set(0)
            mqtt.check_cancelled()
            self._pulse.expect(pause_s)
            await asyncio.sleep(pause_s)

    def _lost(self, error: UplinkError) -> float:
        """Count and tell why a connection ended; how long to wait for the next."""
        lived_s = 0.0 if self._online_since_s is None else time.monotonic() - self._online_since_s
        self._online_since_s = None
        self._metrics.reconnects.labels(cause=error.cause).inc()
        _log.warning("connection ended: %s", error, extra={"cause": error.cause})
        systemd.notify("READY=1")  # a broker that is away keeps no machine from booting
        return self._backoff.pause_s(error, lived_s)

    def _connection(self, endpoint: str) -> "Transport":
        connection = mqtt.Connection(
            endpoint,
            client_id=self._broker.client_id,
            tls=self._tls,
            keepalive_s=self._broker.keepalive_s,
            timeout_s=self._broker.connect_timeout_s,
            clean_start=False,
            session_expiry_s=_SESSION_EXPIRY_S,
            receive_maximum=self._receive_maximum,
            will=None,
        )
        if self._jetstream is None:
            return connection
        from gateway.receiver.jetstream import JetStream

        timeout_s = self._broker.connect_timeout_s
        return JetStream(self._jetstream, tls=self._tls, timeout_s=timeout_s, retain=connection)

    async def _subscribe(self, connection: "Transport") -> None:
        share = f"$share/{self._broker.share}/" if self._broker.share else ""
        # What is retained is not for shared subscriptions (MQTT 5, 4.8.2): everybody learns of every signer.
        await connection.subscribe(_BIRTHS, *(share + topic for topic in _TOPICS))
        self._online_since_s = time.monotonic()
        self._metrics.online.set(1)
        _log.info("connected and subscribed")
        systemd.notify("READY=1")

    async def _serve(self, connection: "Transport") -> NoReturn:
        """Raises `UplinkError` when the connection has ended."""
        self._pubacks = []
        self._tell_keys(connection, {gateway for gateway, _ in self._intake.registry.values()})
        await self._take_parked(connection)
        while True:
            self._pulse.rest()
            waiting = await connection.receive(self._receive_maximum)
            self._pulse.expect(0.0)
            await self._learn(connection, [each for each in waiting if each.topic.endswith(_STATUS)])
            for bunch in _bunches(waiting):
                bundles = [each for each in bunch if not each.topic.endswith(_STATUS)]
                taken = await self._take(connection, [Message(_gateway(each.topic), each.payload) for each in bundles])
                for message in bunch:
                    message.ack()
                self._metrics.messages.inc(len(bundles))
                if taken.plan.epochs and taken.committed.parked:
                    await self._take_parked(connection)

    def use(self, tls: ssl.SSLContext) -> None:
        """Connect anew with these certificates; the broker keeps what arrives meanwhile."""
        self._tls = tls
        self._renewed.set()

    async def _make_way(self) -> NoReturn:
        """Raises `ConnectionLostError` when other certificates are to be used."""
        await self._renewed.wait()
        self._renewed.clear()
        raise ConnectionLostError("certificates have changed: connecting anew with them")

    def publish_key_list(self, data: bytes) -> None:
        """Tell every gateway another key list; the same one is no news."""
        if data != self._key_list:
            self._key_list = data
            self._key_list_changed.set()

    async def _keep_telling_keys(self, connection: "Transport") -> NoReturn:
        while True:
            await self._key_list_changed.wait()
            self._key_list_changed.clear()
            _log.info("another key list is published")
            self._tell_keys(connection, {gateway for gateway, _ in self._intake.registry.values()})

    def _tell_keys(self, connection: "Transport", gateways: Iterable[str]) -> None:
        for gateway in sorted(gateways):
            topic = f"v1/gw/{gateway}/down/keys"
            self._pubacks.append((topic, connection.publish(topic, self._key_list, retain=True)))

    async def _learn(self, connection: "Transport", births: Sequence[client.Message]) -> None:
        """Learn signers, before the bundles of the same delivery are verified."""
        if self._births is None:
            return
        said = [(_gateway(each.topic), each.payload) for each in births]
        learn = partial(self._births.take, said, now=dt.datetime.now(dt.UTC))
        self._welcome(connection, await self._durably(learn))

    def _welcome(self, connection: "Transport", gateways: Sequence[str]) -> None:
        for gateway in gateways:
            _log.info("a gateway's signer is pinned", extra={"gateway": gateway})
        self._tell_keys(connection, gateways)

    async def _take_parked(self, connection: "Transport") -> None:
        """Take the parked bundles whose epochs have arrived by now."""
        after = 0
        store = self._intake.store
        while ready := await self._durably(partial(store.ready, after=after, limit=self._receive_maximum)):
            await self._take(connection, [message for _, message in ready])
            after = ready[-1][0]

    async def _take(self, connection: "Transport", messages: Sequence[Message]) -> Taken:
        now_ms = _now_ms()
        taken = await self._durably(partial(self._intake.take, messages, now_ms=now_ms))
        try:
            await self._publish(connection, taken.receipts)
        finally:
            self._report(taken, now_ms)
        if self._births is not None:
            listen = partial(self._births.listen, taken.plan.parts, now=dt.datetime.now(dt.UTC))
            self._welcome(connection, await self._durably(listen))
        return taken

    async def _durably(self, action: Callable[[], T], pulse: Pulse | None = None) -> T:
        """Run `action` in a thread until the database allows it; nothing is acknowledged before that."""
        delay_s = _BACKOFF_S
        pulse = pulse or self._pulse
        while True:
            pulse.expect(0.0)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, action)
            except StoreError as error:
                self._metrics.store_errors.inc()
                _log.error("nothing is taken until the store works again: %s", error)
            pulse.expect(delay_s)
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
            delay_s = min(2 * delay_s, self._broker.backoff_max_s)

    async def _publish(self, connection: "Transport", receipts: Sequence[tuple[str, bytes]]) -> None:
        """Send receipts, once the broker has acknowledged the previous ones: what waits there stays bounded."""
        self._pulse.expect(self._broker.connect_timeout_s)
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
        metrics.discarded.inc(plan.discarded)
        metrics.repeated.inc(committed.repeated)
        metrics.parked.set(committed.parked)
        metrics.forks.inc(committed.forks)
        for place, each in enumerate(plan.quarantined):
            metrics.quarantined.labels(cause=each.cause).inc()
            if place < taken.unverified:
                metrics.verify_failures.labels(cause=each.cause).inc()
            foreign = each.cause in {SignerError.cause, SignatureError.cause}
            level = logging.ERROR if foreign else logging.WARNING
            self._warn(level, "quarantined", each.message.gateway, each.cause, each.hash)
        if plan.overflowed:
            metrics.verify_failures.labels(cause="parked-full").inc(plan.overflowed)
            if times := self._throttle.admit(("parked-full",), time.monotonic()):
                _log.warning("no room to park bundles whose epoch is missing", extra={"times": times})
        for fork in plan.forks:
            text = "a gateway's history contradicts itself"
            self._warn(logging.ERROR, text, fork.bundle.gateway, fork.cause, fork.bundle.hash)
        self._silence.heard((bundle.gateway for bundle in plan.bundles), now_ms)

    def _warn(self, level: int, text: str, gateway: str, cause: str, digest: bytes) -> None:
        """Tell what is wrong with what a gateway sent, once a minute for each cause."""
        if times := self._throttle.admit((text, gateway, cause), time.monotonic()):
            extra = {"gateway": gateway, "cause": cause, "hash": digest[:8].hex(), "times": times}
            _log.log(level, text, extra=extra)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _bunches(waiting: Sequence[client.Message]) -> Iterator[list[client.Message]]:
    """What arrived, in transactions: while one is at work, the receipts of the one before it let more come."""
    bunch: list[client.Message] = []
    size_bytes = 0
    for message in waiting:
        size_bytes += len(message.payload)
        if bunch and size_bytes > _BUNCH_BYTES:
            yield bunch
            bunch, size_bytes = [], len(message.payload)
        bunch.append(message)
    yield bunch


def _gateway(topic: str) -> str:
    return topic.split("/")[2]


def open_intake(config: ReceiverConfig, registry: Registry) -> Intake:
    """Open the store with the keys that `config` names; its caller closes the store. Raises `GatewayError`."""
    keys = RecipientKeys(config.receiver.recipient_keys)
    signer = signer_for(load_private_key(config.receiver.receipt_key))
    return Intake(
        store=open_store(config),
        registry=registry,
        limits=partial(_refreshed, keys, registry),
        recipient_keys=keys,
        signer=signer,
        parked_limit=config.ingest.parked_bundles,
        parked_per_gateway=config.ingest.parked_per_gateway,
    )


async def run(config: ReceiverConfig) -> None:
    """Run a receiver with everything that `config` names. Raises `GatewayError` if it cannot start."""
    metrics = ReceiverMetrics()
    scrapes = scrape_context(config.metrics.tls)
    files = Files(config, metrics, scrapes)
    async with AsyncExitStack() as stack:
        registry = Registry(config.receiver.registry)
        intake = open_intake(config, registry)
        stack.callback(intake.store.close)
        if config.metrics.listen != "off":
            pages = {"/metrics": http.Page(metrics.render)}
            await stack.enter_async_context(http.serve(pages, listen=config.metrics.listen, tls=scrapes))
        births = Births(registry, config.tls.ca, partial(_refuse, metrics))
        receiver = Receiver(
            config.broker,
            config.ingest,
            tls=files.tls,
            intake=intake,
            key_list=files.key_list,
            metrics=metrics,
            jetstream=config.jetstream if config.jetstream.servers else None,
            births=births,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(files.watch(receiver))
            tasks.create_task(systemd.watchdog(receiver.pulses))
            await receiver.run()


def _refreshed(keys: RecipientKeys, registry: Registry) -> Mapping[bytes, Last]:
    """What people have changed meanwhile takes effect with the next transaction."""
    keys.refresh()
    return registry.limits()


def _refuse(metrics: ReceiverMetrics, gateway: str, error: SignerError) -> None:
    metrics.signers_refused.inc()
    _log.error("%s", error, extra={"gateway": gateway})
