"""MQTT for both sides of the path: the only importer of aiomqtt (asyncio-mqtt, as it is published today) and paho.

A `Connection` lives once, from CONNECT to its end. It adds what aiomqtt leaves out: a publish answers with the reason
code of its PUBACK, everything that waits fails at once when the connection ends, and a message is acknowledged by the
one who processed it. It speaks MQTT 5; a broker that refuses this version is asked again in 3.1.1, where there are no
reason codes (a denied publish is acknowledged), no limits and no session expiry.
"""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiomqtt
from aiomqtt.types import PahoSocket
from paho.mqtt.client import MQTT_ERR_SUCCESS, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import (
    BrokerNotFoundError,
    BrokerUnreachableError,
    ConnectionLostError,
    ConnectionRefusedByBrokerError,
    TlsRefusedError,
    UplinkError,
)

FAILURE = 0x80
"""MQTT 5, 2.4: reason codes from here on say that something failed."""
_UNSUPPORTED_PROTOCOL_VERSION = 0x84
_MAXIMUM_PACKET_BYTES = 262_144
_QOS = 1
_FAREWELL_S = 1.0


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, if the connection ends without a farewell."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker takes (MQTT 5, 3.2.2.3); the defaults are the protocol's own."""

    receive_maximum: int = 65_535
    """Publishes that may be unacknowledged at once."""
    maximum_packet_size: int = 268_435_455
    """Bytes of one packet."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the broker, not acknowledged yet."""

    topic: str
    payload: bytes
    ack: Callable[[], None]
    """Tell the broker that it is processed, in order of arrival (MQTT-4.6.0-2); else the session's next connection
    gets it again. Does nothing once the connection has ended."""


class Connection:
    """One connection to one broker, an asynchronous context manager that is never entered twice.

    `endpoint` is HOST:PORT. Entering raises `BrokerNotFoundError`, `BrokerUnreachableError`, `TlsRefusedError` or
    `ConnectionRefusedByBrokerError`. Leaving normally or by cancellation says farewell; leaving by an error does not,
    so that the broker publishes the will.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        client_id: str,
        tls: ssl.SSLContext,
        keepalive_s: int,
        timeout_s: float,
        clean_start: bool,
        session_expiry_s: int,
        receive_maximum: int,
        will: Will | None,
    ) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        tls.sslsocket_class = _Socket
        host, _, port = endpoint.rpartition(":")
        common: dict[str, Any] = {
            "hostname": host.strip("[]"),
            "port": int(port),
            "identifier": client_id,
            "tls_context": tls,
            "keepalive": keepalive_s,
            "will": None if will is None else aiomqtt.Will(will.topic, will.payload, _QOS, retain=True),
        }
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's own annotations end here
        properties.SessionExpiryInterval = session_expiry_s
        properties.ReceiveMaximum = receive_maximum
        properties.MaximumPacketSize = _MAXIMUM_PACKET_BYTES
        self._dialects: list[dict[str, Any]] = [
            {**common, "protocol": aiomqtt.ProtocolVersion.V5, "clean_start": clean_start, "properties": properties},
            {**common, "protocol": aiomqtt.ProtocolVersion.V311, "clean_session": clean_start},
        ]

    async def __aenter__(self) -> Self:
        """Connect; the broker has accepted when this returns."""
        try:
            self._client = await self._connect(self._dialects[0])
        except _UnsupportedVersionError:
            self._client = await self._connect(self._dialects[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the connection; what still waits fails."""
        try:
            if error is None or isinstance(error, asyncio.CancelledError):
                await self._client.farewell()
        finally:
            self._client.close("closed by this side")

    @property
    def limits(self) -> Limits:
        """What the broker takes."""
        return self._client.limits

    @property
    def session_present(self) -> bool:
        """The broker remembered this client's session: its subscriptions and what is not acknowledged."""
        return self._client.session_present

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[int]:
        """Send with QoS 1; the future is the PUBACK's reason code (0 in MQTT 3.1.1).

        Raises `ConnectionLostError` if the connection has ended; the future fails with it if that happens later.
        """
        return self._client.submit(topic, payload, retain=retain)

    async def subscribe(self, *topics: str) -> None:
        """Subscribe with QoS 1.

        Raises `ConnectionRefusedByBrokerError` that names the first filter refused, `ConnectionLostError`.
        """
        try:
            granted: Sequence[int | ReasonCode] = await self._client.subscribe(
                [(topic, _QOS) for topic in topics], timeout=self._timeout_s
            )
        except aiomqtt.MqttError as error:
            raise ConnectionLostError(f"{self.endpoint}: no answer to a subscription: {error}") from error
        for topic, code in zip(topics, granted, strict=True):
            if (code.value if isinstance(code, ReasonCode) else code) >= FAILURE:
                raise ConnectionRefusedByBrokerError(f"{self.endpoint}: subscription to {topic} refused: {code}")

    async def receive(self, limit: int) -> list[Message]:
        """Wait for a message, then take what has arrived, at most `limit`, in order of arrival.

        Raises `ConnectionLostError` once the connection has ended and everything was taken.
        """
        inbox, lost = self._client.inbox, self._client.lost
        messages: list[Message] = []
        while not messages or (len(messages) < limit and not inbox.empty()):
            message = None if inbox.empty() and lost.done() else await inbox.get()
            if message is None:
                break
            messages.append(message)
        if not messages:
            raise ConnectionLostError(lost.result())
        return messages

    async def messages(self) -> AsyncIterator[Message]:
        """Every message, one by one; ends as `receive` does."""
        while True:
            yield (await self.receive(1))[0]

    async def _connect(self, dialect: dict[str, Any]) -> "_Client":
        client = _Client(self.endpoint, self._timeout_s, dialect)
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(client.abandon)
                async with asyncio.timeout(self._timeout_s):
                    await client.__aenter__()
                undo.pop_all()
        except TimeoutError:
            raise BrokerUnreachableError(f"{self.endpoint}: no answer within {self._timeout_s:g} s") from None
        except aiomqtt.MqttError as error:
            if client.refusal == _UNSUPPORTED_PROTOCOL_VERSION and dialect is self._dialects[0]:
                raise _UnsupportedVersionError from error
            raise self._explain(client.trouble.error, error) from error
        return client

    def _explain(self, cause: OSError | None, error: aiomqtt.MqttError) -> UplinkError:
        """Name who is to blame for a connection that did not come about."""
        if isinstance(cause, socket.gaierror):
            return BrokerNotFoundError(f"{self.endpoint}: this name has no address: {cause.strerror}")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return TlsRefusedError(f"{self.endpoint}: TLS refused: {cause.strerror or cause}")
        if cause is not None:
            return BrokerUnreachableError(f"{self.endpoint}: cannot be reached: {cause.strerror or cause}")
        return ConnectionRefusedByBrokerError(f"{self.endpoint}: {error}")


class _UnsupportedVersionError(Exception):
    """The broker does not speak MQTT 5."""


class _Trouble(logging.Handler):
    """Keeps the socket error that paho only logs: it tells a TLS refusal from a lost connection."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.error = next((each for each in arguments if isinstance(each, OSError)), self.error)


class _Socket(ssl.SSLSocket):
    """Closes itself if the handshake fails, or if a connect was abandoned in its thread and nobody else owns it."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def __del__(self) -> None:
        self.close()


class _Client(aiomqtt.Client):
    """aiomqtt's client for exactly one connection, with what its callbacks leave out.

    All callbacks run on the event loop; only `_client_connect` runs in a thread.
    """

    def __init__(self, endpoint: str, timeout_s: float, dialect: dict[str, Any]) -> None:
        self.trouble = _Trouble()
        logger = logging.Logger("paho", logging.ERROR)  # noqa: LOG001 - one for each connection; it only feeds `trouble`
        logger.addHandler(self.trouble)
        super().__init__(
            timeout=math.inf,
            logger=logger,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            **dialect,
        )
        self._client.connect_timeout = timeout_s
        self._client.manual_ack_set(on=True)
        self._endpoint = endpoint
        self.limits = Limits()
        self.session_present = False
        self.refusal: int | None = None
        self.inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._pubacks: dict[int, asyncio.Future[int]] = {}
        self._abandoned = False
        self._disconnected.add_done_callback(self._on_disconnected)

    def submit(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[int]:
        if self.lost.done():
            raise ConnectionLostError(self.lost.result())
        sent = self._client.publish(topic, payload, _QOS, retain)
        if sent.rc != MQTT_ERR_SUCCESS:
            raise ConnectionLostError(f"{self._endpoint}: cannot publish: {sent.rc!r}")
        future: asyncio.Future[int] = self._loop.create_future()
        self._pubacks[sent.mid] = future
        return future

    async def farewell(self) -> None:
        """Send DISCONNECT and wait until it is written, not for ever."""
        if not self.lost.done() and self._client.disconnect() == MQTT_ERR_SUCCESS:
            await asyncio.wait({self.lost}, timeout=_FAREWELL_S)

    def close(self, reason: str) -> None:
        """Close the socket, whatever its state; paho's public ways out wait for the peer."""
        self._client._sock_close()  # noqa: SLF001
        self._end(reason)

    def abandon(self) -> None:
        """Close what is open, and what the connecting thread may still open."""
        self._abandoned = True
        self.close("abandoned")

    def _on_connect_returned(self) -> None:
        if self._abandoned:
            self.close("abandoned")

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        except OSError as error:
            self.trouble.error = error
            raise
        except UnicodeError as error:
            self.trouble.error = socket.gaierror(socket.EAI_NONAME, str(error))
            raise self.trouble.error from error
        finally:
            self._loop.call_soon_threadsafe(self._on_connect_returned)

    def _on_connect(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ANN401 - paho's signature
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if reason_code.is_failure:
            self.refusal = reason_code.value
        else:
            self.session_present = flags.session_present
            self.limits = Limits(
                getattr(properties, "ReceiveMaximum", self.limits.receive_maximum),
                getattr(properties, "MaximumPacketSize", self.limits.maximum_packet_size),
            )
            # What exceeds the broker's limit waits in paho, whose public setter refuses once the socket is open.
            client._max_inflight_messages = self.limits.receive_maximum  # noqa: SLF001
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self,
        client: PahoClient,  # noqa: ARG002 - paho's signature
        userdata: Any,  # noqa: ANN401, ARG002 - paho's signature
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,  # noqa: ARG002 - paho's signature
    ) -> None:
        future = self._pubacks.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(reason_code.value)

    def _on_message(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ANN401, ARG002 - paho's signature
        message: MQTTMessage,
    ) -> None:
        ack = partial(self._acknowledge, client, message.mid, message.qos)
        self.inbox.put_nowait(Message(message.topic, bytes(message.payload), ack))

    def _acknowledge(self, client: PahoClient, mid: int, qos: int) -> None:
        if not self.lost.done():
            client.ack(mid, qos)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ANN401 - paho's signature
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._end(f"connection lost: {self.trouble.error or reason_code}")

    def _on_disconnected(self, disconnected: asyncio.Future[None]) -> None:
        """Note what broke inside a callback, such as a packet that paho cannot read."""
        error = None if disconnected.cancelled() else disconnected.exception()
        if error is not None:
            self.close(f"connection lost: {error}")

    def _on_socket_register_write(
        self,
        client: PahoClient,
        userdata: Any,  # noqa: ANN401, ARG002 - paho's signature
        sock: PahoSocket,
    ) -> None:
        """Watch for room to write, unless the socket is closed by the time the loop gets there."""

        def watch() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(watch)

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        reason = f"{self._endpoint}: {reason}"
        self.lost.set_result(reason)
        self.inbox.put_nowait(None)
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("refused: closed before it answered"))
            self._connected.exception()
        everything: list[asyncio.Future[Any]] = [*self._pubacks.values(), *self._pending_subscribes.values()]
        for waiting in everything:
            if not waiting.done():
                waiting.set_exception(ConnectionLostError(reason))
                waiting.exception()  # nobody is obliged to look
