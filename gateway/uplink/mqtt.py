"""MQTT for both sides of the path, on aiomqtt (asyncio-mqtt, as it is published today) and paho.

A `Connection` lives once, from CONNECT to its end. It adds what aiomqtt leaves out: a publish answers with the reason
code of its PUBACK, everything that waits fails at once when the connection ends, and a message is acknowledged by the
one who processed it. It speaks MQTT 5; a broker that refuses this version is asked again in 3.1.1, where there are no
reason codes (a denied publish is acknowledged), no limits and no session expiry.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import (
    BrokerNotFoundError,
    BrokerUnreachableError,
    CertificateTimeError,
    ConnectionLostError,
    ConnectionRefusedByBrokerError,
    ServerRevokedError,
    TlsRefusedError,
    UplinkError,
)
from gateway.identity.tls import REVOKED
from gateway.uplink.client import QOS, Client, Limits, Message, TlsSocket

FAILURE = 0x80
"""MQTT 5, 2.4: reason codes from here on say that something failed."""
_UNSUPPORTED_PROTOCOL_VERSION = 0x84
_MAXIMUM_PACKET_BYTES = 262_144
_NOT_YET_VALID, _EXPIRED = 9, 10
"""OpenSSL, X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_ALERT_EXPIRED = "SSLV3_ALERT_CERTIFICATE_EXPIRED"


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, if the connection ends without a farewell."""

    topic: str
    payload: bytes


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
        tls.sslsocket_class = TlsSocket
        host, _, port = endpoint.rpartition(":")
        common: dict[str, Any] = {
            "hostname": host.strip("[]"),
            "port": int(port),
            "identifier": client_id,
            "tls_context": tls,
            "keepalive": keepalive_s,
            "will": None if will is None else aiomqtt.Will(will.topic, will.payload, QOS, retain=True),
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
                [(topic, QOS) for topic in topics], timeout=self._timeout_s
            )
        except aiomqtt.MqttError as error:
            raise ConnectionLostError(f"{self.endpoint}: no answer to a subscription: {error}") from error
        if len(granted) != len(topics):
            raise ConnectionLostError(f"{self.endpoint}: {len(granted)} answers to {len(topics)} subscriptions")
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
            raise self._client.loss()
        return messages

    async def messages(self) -> AsyncIterator[Message]:
        """Every message, one by one; ends as `receive` does."""
        while True:
            yield (await self.receive(1))[0]

    async def _connect(self, dialect: dict[str, Any]) -> Client:
        client = Client(self.endpoint, self._timeout_s, dialect)
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(client.abandon)
                async with asyncio.timeout(self._timeout_s):
                    await client.__aenter__()
                undo.pop_all()
        except TimeoutError:
            raise BrokerUnreachableError(f"{self.endpoint}: no answer within {self._timeout_s:g} s") from None
        except aiomqtt.MqttError as error:
            # RabbitMQ before 3.13 chokes on MQTT 5, and closes without a word.
            speechless = client.refusal is None and client.trouble.error is None
            if dialect is self._dialects[0] and (speechless or client.refusal == _UNSUPPORTED_PROTOCOL_VERSION):
                raise _UnsupportedVersionError from error
            raise self._explain(client.trouble.error, error) from error
        return client

    def _explain(self, cause: OSError | None, error: aiomqtt.MqttError) -> UplinkError:
        """Name who is to blame for a connection that did not come about."""
        if isinstance(cause, socket.gaierror):
            return BrokerNotFoundError(f"{self.endpoint}: this name has no address: {cause.strerror}")
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in {_NOT_YET_VALID, _EXPIRED}:
            what = "is not valid yet" if cause.verify_code == _NOT_YET_VALID else "has expired"
            now = datetime.now(UTC)
            return CertificateTimeError(
                f"{self.endpoint}: TLS refused: the broker's certificate {what} at {now:%Y-%m-%dT%H:%M:%SZ}, which is"
                " what this machine's clock says: set the clock, or renew the certificate"
            )
        if isinstance(cause, ssl.SSLError) and cause.reason == _ALERT_EXPIRED:
            return CertificateTimeError(
                f"{self.endpoint}: TLS refused: by the broker's clock this machine's certificate has expired: renew it,"
                " or set the broker's clock"
            )
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code == REVOKED:
            return ServerRevokedError(f"{self.endpoint}: TLS refused: {cause.strerror or cause}")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return TlsRefusedError(f"{self.endpoint}: TLS refused: {cause.strerror or cause}")
        if cause is not None:
            return BrokerUnreachableError(f"{self.endpoint}: cannot be reached: {cause.strerror or cause}")
        return ConnectionRefusedByBrokerError(f"{self.endpoint}: {error}")


def check_cancelled() -> None:
    """Raise `CancelledError` if the current task was cancelled: a TaskGroup that fails at that moment forgets it.

    Only after a TaskGroup whose body still ran when it failed: else the group's own cancellation of it counts on.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _UnsupportedVersionError(Exception):
    """The broker does not seem to speak MQTT 5."""
