"""Bundles from NATS JetStream: gateways speak MQTT to the cluster, workers pull from one durable consumer.

A message is acknowledged after the database's commit; one that a worker took and never acknowledged goes to another.
Receipts go back as plain NATS messages, which the cluster hands to MQTT subscribers at most once: what is lost is
answered again when the gateway sends again. Key lists go through MQTT, which alone retains.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from gateway.errors import (
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    ConnectionRefusedByBrokerError,
    TlsRefusedError,
    UplinkError,
)
from gateway.receiver.config import JetStreamSection
from gateway.uplink import mqtt
from gateway.uplink.client import Message

STREAM = "$MQTT_msgs"
"""Where nats-server keeps what MQTT clients publish with QoS 1."""
_SUBJECTS = "$MQTT.msgs.>"
_PREFIX = "$MQTT.msgs."
_BUNDLES = "$MQTT.msgs.v1.gw.*.up.>"
_DURABLE = "receiver"
_FETCH_S = 2.0
"""A request that a dying node took with it is made again after that."""
_ACK_WAIT_S = 30.0

T = TypeVar("T")


class JetStream:
    """One worker's connection to the cluster; an asynchronous context manager that is never entered twice.

    Entering raises what `mqtt.Connection` does, and `ConfigError` if the stream is not as `init_stream` makes it.
    """

    def __init__(
        self, section: JetStreamSection, *, tls: ssl.SSLContext, timeout_s: float, retain: mqtt.Connection
    ) -> None:
        self._section = section
        self._tls = tls
        self._timeout_s = timeout_s
        self._retain = retain
        self._taken: list[str] = []
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect to whichever node answers."""
        self._nats = await connect(self._section.servers, tls=self._tls, timeout_s=self._timeout_s, closed=self._end)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._nats.close)
            stream = self._nats.jetstream(timeout=self._timeout_s)
            try:
                await _declared(_check(stream, self._section))
                self._bundles = await _declared(stream.pull_subscribe_bind(durable=_DURABLE, stream=STREAM))
            except TimeoutError as error:
                raise BrokerUnreachableError("JetStream does not answer: it may be electing a leader") from error
            await self._retain.__aenter__()
            undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell what was processed, then end the connection."""
        try:
            if error is None or isinstance(error, asyncio.CancelledError):
                await self._acknowledge()
        finally:
            await self._nats.close()
            await self._retain.__aexit__(kind, error, trace)

    async def subscribe(self, *_: str) -> None:
        """Nothing to do: the durable consumer says which subjects."""

    async def receive(self, limit: int) -> Sequence[Message]:
        """At least one message, at most `limit`; first acknowledges those that were taken. Raises `UplinkError`."""
        await self._acknowledge()
        while True:
            try:
                fetched = await _declared(self._bundles.fetch(limit, timeout=_FETCH_S))
            except TimeoutError:
                fetched = []
            if self._closed.is_set():
                raise ConnectionLostError("no node of the cluster can be reached")
            if fetched:
                return [
                    Message(each.subject.removeprefix(_PREFIX).replace(".", "/"), each.data, self._ack(each.reply))
                    for each in fetched
                ]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[int]:
        """Send; the future is 0 once it is on its way, or with `retain` the PUBACK's reason code."""
        if retain:
            return self._retain.publish(topic, payload, retain=True)
        return asyncio.ensure_future(self._publish(topic.replace("/", "."), payload))

    async def _publish(self, subject: str, payload: bytes) -> int:
        await _declared(self._nats.publish(subject, payload))
        return 0

    def _ack(self, reply: str) -> Callable[[], None]:
        return lambda: self._taken.append(reply)

    async def _acknowledge(self) -> None:
        taken, self._taken = self._taken, []
        for reply in taken:
            await _declared(self._nats.publish(reply, b"+ACK"))
        if taken:
            await _declared(self._nats.flush())

    async def _end(self) -> None:
        self._closed.set()


async def init_stream(section: JetStreamSection, *, tls: ssl.SSLContext, timeout_s: float) -> bool:
    """Make stream and consumer where they are missing; whether anything was made.

    Raises `ConfigError` for a stream that would lose messages, `UplinkError`.
    """
    client = await connect(section.servers, tls=tls, timeout_s=timeout_s)
    try:
        stream = client.jetstream(timeout=timeout_s)
        made = False
        try:
            await stream.stream_info(STREAM)
        except NotFoundError:
            await _declared(stream.add_stream(_stream(section)))
            made = True
        try:
            await stream.consumer_info(STREAM, _DURABLE)
        except NotFoundError:
            await _declared(stream.add_consumer(STREAM, _consumer(section)))
            made = True
        await _declared(_check(stream, section))
    finally:
        await client.close()
    return made


def _stream(section: JetStreamSection) -> StreamConfig:
    return StreamConfig(
        name=STREAM,
        subjects=[_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        num_replicas=section.replicas,
        max_age=section.max_age_s,
        max_bytes=section.max_bytes,
    )


def _consumer(section: JetStreamSection) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=_DURABLE,
        filter_subject=_BUNDLES,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=_ACK_WAIT_S,
        max_ack_pending=section.max_ack_pending,
    )


async def _check(stream: JetStreamContext, section: JetStreamSection) -> None:
    """Raise `ConfigError` unless stream and consumer keep what gateways publish until a worker has it."""
    try:
        found = (await stream.stream_info(STREAM)).config
        consumer = (await stream.consumer_info(STREAM, _DURABLE)).config
    except NotFoundError as error:
        raise ConfigError(f"{STREAM} or its consumer is missing: run `iomt-receiver init-stream`") from error
    wanted = _stream(section)
    names = ("subjects", "retention", "storage", "num_replicas")
    wrong = [name for name in names if getattr(found, name) != getattr(wanted, name)]
    expected = _consumer(section)
    wrong += [name for name in ("filter_subject", "ack_policy") if getattr(consumer, name) != getattr(expected, name)]
    if wrong:
        raise ConfigError(
            f"{STREAM} would lose messages: {', '.join(wrong)} differ; delete the stream while no gateway is connected"
            " and run `iomt-receiver init-stream`"
        )


async def connect(
    servers: Iterable[str],
    *,
    tls: ssl.SSLContext,
    timeout_s: float,
    closed: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """A client of whichever of `servers` (HOST:PORT) answers; it changes over to another by itself.

    Raises `UplinkError`.
    """
    client = Client()

    async def quiet(_: Exception) -> None:
        """Failures come back from the calls that they concern."""

    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(
                [f"tls://{server}" for server in servers],
                tls=tls,
                connect_timeout=max(1, int(timeout_s / 2)),
                max_reconnect_attempts=10,
                reconnect_time_wait=1,
                error_cb=quiet,
                closed_cb=closed,
                allow_reconnect=True,
            )
    except (TimeoutError, OSError, NatsError) as error:
        await client.close()
        raise _explained(error) from error
    return client


async def _declared(action: Awaitable[T]) -> T:
    """Turn what nats-py raises into `UplinkError`; its timeouts stay `TimeoutError`."""
    try:
        return await action
    except TimeoutError:
        raise
    except APIError as error:
        raise ConnectionRefusedByBrokerError(f"JetStream: {error.description}") from error
    except (NatsError, OSError) as error:
        raise ConnectionLostError(f"NATS: {error or type(error).__name__}") from error


def _explained(error: Exception) -> UplinkError:
    if isinstance(error, ssl.SSLError):
        return TlsRefusedError(f"NATS: {error}")
    if isinstance(error, TimeoutError | OSError | NoServersError):
        return BrokerUnreachableError(f"NATS: no node answers: {error or type(error).__name__}")
    return ConnectionRefusedByBrokerError(f"NATS: {error}")


def users(gateways: Iterable[str]) -> str:
    """The accounts of a cluster: every gateway confined to its own topics, by its certificate's subject."""
    lines = [
        f'      {{ user: "CN={gateway}", allowed_connection_types: ["MQTT"], permissions: {{'
        f' publish: {{ allow: ["v1.gw.{gateway}.up.>", "v1.gw.{gateway}.status"] }},'
        f' subscribe: {{ allow: ["v1.gw.{gateway}.down", "v1.gw.{gateway}.down.>", "$MQTT.sub.>"] }} }} }}'
        for gateway in sorted(gateways)
    ]
    return "\n".join(
        [
            "accounts {",
            "  SYS: { users: [] }",
            "  IOMT: {",
            "    jetstream: enabled",
            "    users: [",
            '      { user: "CN=receiver" }',
            *lines,
            "    ]",
            "  }",
            "}",
            "system_account: SYS",
            "",
        ]
    )
