"""aiomqtt's client for exactly one connection, with what its callbacks leave out; only `mqtt.Connection` uses it."""

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiomqtt
from aiomqtt.types import PahoSocket
from paho.mqtt.client import MQTT_ERR_SUCCESS, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import ClosedByBrokerError, ConnectionLostError, SessionTakenOverError
from gateway.identity.tls import ClientSocket

QOS = 1
_UNSPECIFIED, _SESSION_TAKEN_OVER = 0x80, 0x8E
_FAREWELL_S = 1.0


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


class _Trouble(logging.Handler):
    """Keeps the socket error that paho only logs: it tells a TLS refusal from a lost connection."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.error = next((each for each in arguments if isinstance(each, OSError)), self.error)


class TlsSocket(ClientSocket):
    """Closes itself if the handshake fails, or if a connect was abandoned in its thread and nobody else owns it.

    An end that the other side did not announce (close_notify) is an error, not an end.
    """

    @property
    def suppress_ragged_eofs(self) -> bool:
        """Never."""
        return False

    @suppress_ragged_eofs.setter
    def suppress_ragged_eofs(self, value: bool) -> None:
        pass

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        """As usual. Raises `OSError`."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def __del__(self) -> None:
        self.close()


class Client(aiomqtt.Client):
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
        self._loss: type[ConnectionLostError] = ConnectionLostError
        self._pubacks: dict[int, asyncio.Future[int]] = {}
        self._abandoned = False
        self._disconnected.add_done_callback(self._on_disconnected)

    def loss(self) -> ConnectionLostError:
        """Why the connection ended, once it has."""
        return self._loss(self.lost.result())

    def submit(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[int]:
        """Send with QoS 1; the future is the PUBACK's reason code. Raises `ConnectionLostError`."""
        if self.lost.done():
            raise self.loss()
        sent = self._client.publish(topic, payload, QOS, retain)
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
        if reason_code.value == _SESSION_TAKEN_OVER:
            self._loss = SessionTakenOverError
            self._end("connection lost: another client with this certificate took it over; no two boxes share one")
        elif self.trouble.error is None and reason_code.value == _UNSPECIFIED:
            self._loss = ClosedByBrokerError
            self._end("connection lost: the broker closed it and gave no reason")
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
                waiting.set_exception(self.loss())
                waiting.exception()  # nobody is obliged to look
