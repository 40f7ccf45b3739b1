"""An embedded MQTT broker for the demo and for tests, and for nothing else: it keeps everything in memory.

It is amqtt, which speaks MQTT 3.1.1, with what it lacks: it demands a client certificate (TLS 1.3), confines topics to
the certificate's common name, and answers an MQTT 5 CONNECT with "unacceptable protocol version" (3.1.1, 3.1.2.2)
instead of waiting for bytes that never come. Read from amqtt 0.12: a message sent to a subscriber that is gone before
its PUBACK, or that takes longer than 5 s for it, is forgotten, and there is no Receive Maximum; what arrives while a
persistent session has no connection is kept. The path does not depend on better: what no receipt covers is sent again.

`python -m gateway.lab.broker --pki DIR --port N`; when it listens it says so in one JSON line. From SIGUSR1 to SIGUSR2
it denies gateways the topics on which they send, silently, as MQTT 3.1.1 has it.
"""

import argparse
import asyncio
import json
import logging
import re
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, ListenerConfig
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from gateway.identity.tls import server_context

_RECEIVER = "receiver"
_COMMON_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PROTOCOL_LEVEL_3_1_1 = 4
_UNACCEPTABLE_PROTOCOL_VERSION = b"\x20\x02\x00\x01"
_IDENTIFIER_REJECTED = b"\x20\x02\x00\x02"
_REMAINING_LENGTH_BYTES = 4


def permitted(common_name: str, topic: str, action: Action) -> bool:
    """Whether the owner of a certificate may use a topic, or a filter: the same rules as `config/mosquitto/acl`."""
    if action is Action.SUBSCRIBE:
        topic = _without_share(topic)
    levels = topic.split("/")
    root, gateway, place = levels[:2], levels[2:3], levels[3:]
    if root != ["v1", "gw"] or not gateway or not place:
        return False
    upwards = place == ["status"] or (place[0] == "up" and len(place) > 1)
    downwards = place[0] == "down" and len(place) > 1
    if common_name == _RECEIVER:
        return downwards if action is Action.PUBLISH else upwards and gateway != ["#"]
    return gateway == [common_name] and (upwards if action is Action.PUBLISH else downwards)


def _without_share(topic_filter: str) -> str:
    """The filter of a shared subscription (MQTT 5, 4.8.2); here every member gets every message."""
    return topic_filter.split("/", 2)[-1] if topic_filter.startswith("$share/") else topic_filter


class _Replay(StreamReaderAdapter):  # type: ignore[misc] # amqtt is not annotated
    """A reader that first gives back what was already read."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._head = head

    async def read(self, n: int = -1) -> bytes:
        data, self._head = self._head[:n], self._head[n:]
        if len(data) < n:
            data += await super().read(n - len(data))
        return data


class _Writer(StreamWriterAdapter):  # type: ignore[misc] # amqtt is not annotated
    """A writer whose connection can be ended without waiting for it."""

    def end(self) -> None:
        """Send what is written, and TLS's own goodbye."""
        self._writer.close()


class DemoBroker(Broker):  # type: ignore[misc] # amqtt is not annotated
    """amqtt behind mutual TLS on a loopback port, with topics confined to certificates."""

    def __init__(self, pki: Path, port: int) -> None:
        listener = {
            "type": "tcp",
            "bind": f"127.0.0.1:{port}",
            "ssl": True,
            "cafile": str(pki / "ca.crt"),
            "certfile": str(pki / "broker.crt"),
            "keyfile": str(pki / "broker.key"),
        }
        super().__init__({"listeners": {"default": listener}, "plugins": {}})
        self.uplink_denied = False

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._servers["default"].instance.sockets[0].getsockname()[1]
        return port

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        return server_context(listener["cafile"], listener["certfile"], listener["keyfile"])

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve a client that speaks MQTT 3.1.1 and calls itself what its certificate says; refuse any other."""
        try:
            head, level, client_id = await _begin_connect(reader)
            if level != _PROTOCOL_LEVEL_3_1_1:
                writer.write(_UNACCEPTABLE_PROTOCOL_VERSION)
            elif client_id.decode("utf-8", "replace") != _common_name(writer.get_extra_info("ssl_object")):
                writer.write(_IDENTIFIER_REJECTED)
            else:
                await self._client_connected(listener_name, _Replay(head, reader), _Writer(writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone; amqtt has no other answer
        finally:
            writer.close()

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        """Know the client by its certificate; a last will is a publish like any other."""
        session.username = _common_name(session.ssl_object)
        return not session.will_flag or permitted(session.username or "", session.will_topic or "", Action.PUBLISH)

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        denied = self.uplink_denied and action is Action.PUBLISH and session.username != _RECEIVER
        return not (denied and "/up/" in topic) and permitted(session.username or "", topic, action)

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """As amqtt's, for shared subscriptions too."""
        topic_filter, qos = subscription
        if not await self._topic_filtering(session, topic_filter, Action.SUBSCRIBE):
            return 0x80
        granted: int = await super().add_subscription((_without_share(topic_filter), qos), session)
        return granted

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Only to subscribers: amqtt offers a client that connects the retained messages of everybody's filters."""
        topic_filter = _without_share(subscription[0])
        if any(subscriber is session for subscriber, _ in self._subscriptions.get(topic_filter, ())):
            await super()._publish_retained_messages_for_subscription((topic_filter, subscription[1]), session)

    async def _handle_disconnect(
        self, client_session: Session, handler: BrokerProtocolHandler, disconnect_waiter: asyncio.Future[Any]
    ) -> None:
        """End a clean session with its connection; amqtt lets the next one inherit it for up to a second."""
        await super()._handle_disconnect(client_session, handler, disconnect_waiter)
        known, _ = self._sessions.get(client_session.client_id, (None, None))
        if client_session.clean_session and known is client_session:
            await self._delete_session(client_session.client_id)

    async def _delete_session(self, client_id: str) -> None:
        """End the connection that a clean start takes over; amqtt leaves it open and later publishes its will."""
        session, handler = self._sessions.get(client_id, (None, None))
        if session is not None and handler is not None and session.transitions.is_connected():
            session.will_flag = False
            await handler.handle_connection_closed()
            await self._stop_handler(handler)
        await super()._delete_session(client_id)

    async def _stop_handler(self, handler: BrokerProtocolHandler) -> None:
        """End the connection, for amqtt cancels its reader and waits, and Python 3.11's `wait_for` may forget that."""
        if handler.writer is not None:
            handler.writer.end()
        await super()._stop_handler(handler)


def _common_name(tls: ssl.SSLObject) -> str | None:
    """Who the client is by its certificate, if that is a usable id."""
    subject: Any = (tls.getpeercert() or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 and _COMMON_NAME.fullmatch(names[0]) else None


async def _begin_connect(reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """Read the first packet as far as its client id (MQTT 3.1.1, 3.1): the bytes, protocol level, client id.

    The client id is empty if another level follows another layout.
    """
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) <= _REMAINING_LENGTH_BYTES:
        head += await reader.readexactly(1)
    head += await reader.readexactly(7)
    level = head[-1]
    if level != _PROTOCOL_LEVEL_3_1_1:
        return head, level, b""
    head += await reader.readexactly(5)
    client_id = await reader.readexactly(int.from_bytes(head[-2:], "big"))
    return head + client_id, level, client_id


async def serve(pki: Path, port: int) -> None:
    """Run until SIGTERM or SIGINT; `port` 0 takes a free one. The ready line tells which."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = DemoBroker(pki, port)
    for number, denied in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        asyncio.get_running_loop().add_signal_handler(number, setattr, broker, "uplink_denied", denied)
    await broker.start()
    sys.stdout.write(json.dumps({"event": "ready", "port": broker.port}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await broker.shutdown()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.broker", description="An MQTT broker for demos.")
    parser.add_argument("--pki", type=Path, required=True, metavar="DIR", help="made by `iomt-gateway certs dev`")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0: a free one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(serve(arguments.pki, arguments.port))


if __name__ == "__main__":
    main()
