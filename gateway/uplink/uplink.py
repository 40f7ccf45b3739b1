"""The gateway's way to the cloud: reads the outbox, publishes, applies receipts, and comes back after every loss.

Outage and normal running are the same code: whatever is unreceipted is published. When live bundles fall more than a
window behind, they overtake from the beginning of a segment on, and what lies before drains behind them.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

from gateway.config import UplinkSection
from gateway.envelope.keys import VerifyKey
from gateway.envelope.receipt import decode_receipt
from gateway.errors import (
    ConnectionLostError,
    OutboxDamagedError,
    ReceiptError,
    ServerRevokedError,
    SessionTakenOverError,
    UplinkError,
)
from gateway.model import Lane
from gateway.observe.metrics import GatewayMetrics
from gateway.observe.progress import Pulse
from gateway.observe.throttle import Throttle
from gateway.outbox.log import Stored
from gateway.outbox.outbox import Outbox
from gateway.uplink.backoff import Backoff, first_of
from gateway.uplink.mqtt import FAILURE, Connection, Will, check_cancelled
from gateway.uplink.session import Session

_log = logging.getLogger(__name__)

_FAREWELL_S = 1.0
_SAY_AGAIN_S = 60.0
_STEPS = 4
"""That many times the broker may take `connect_timeout_s`: two dialects, the subscription, the end before."""
_IDLE_S = 10.0
"""The longest that the sender sleeps."""
_RECEIVE_MAXIMUM = 64
"""Receipts and key lists that may wait here unprocessed."""

_Ack = tuple[int, asyncio.Future[int]]


class Uplink:
    """Keeps one connection to one of the brokers and empties the outbox through it.

    `receivers` are the keys whose receipts are believed, by kid; it may be replaced at any time. `on_key_list` is
    handed what arrives on `down/keys`; a `ReceiptError` that it raises is counted.
    """

    def __init__(
        self,
        config: UplinkSection,
        *,
        gateway_id: str,
        tls: ssl.SSLContext,
        outbox: Outbox,
        receivers: Mapping[bytes, VerifyKey],
        signer_cert_pem: bytes,
        on_key_list: Callable[[bytes], None],
        metrics: GatewayMetrics,
    ) -> None:
        self.receivers = receivers
        self.online = False
        """Connected, and the broker knows."""
        self.pulse = Pulse()
        self.trouble: str | None = None
        """Why there is no connection, as far as it is known."""
        self.on_backlog: Callable[[], None] = lambda: None
        """Called when a new segment is wanted, from which live bundles can overtake."""
        self._config = config
        self._gateway_id = gateway_id
        self._topics = f"v1/gw/{gateway_id}"
        self._tls = tls
        self._outbox = outbox
        self._signer_certificate = signer_cert_pem.decode("ascii")
        self._on_key_list = on_key_list
        self._metrics = metrics
        self._backoff = Backoff(config.backoff_max_s, random.uniform)
        self._online_since_s: float | None = None
        self._flow: _Flow | None = None
        self._asked = asyncio.Event()
        self._told: dict[str, str] = {}
        self._throttle = Throttle(_SAY_AGAIN_S)
        self._renewed = asyncio.Event()
        self._successor: asyncio.Task[Connection] | None = None
        """Connects while the present connection lives, and takes over when that ends."""

    def use(self, tls: ssl.SSLContext) -> None:
        """Connect with another certificate from now on; a connection that lives is replaced once the new one is up."""
        self._tls = tls
        self._renewed.set()

    async def run(self) -> NoReturn:
        """Serve until cancelled, then say farewell. Raises what a broker is not to blame for."""
        try:
            await self._serve_for_ever()
        finally:
            if self._successor is not None and not self._successor.cancel() and not self._successor.exception():
                await self._successor.result().__aexit__(None, None, None)

    async def _serve_for_ever(self) -> NoReturn:
        pause_s = 0.0
        connecting_s = _STEPS * self._config.connect_timeout_s + self._config.ack_timeout_s
        for endpoint in itertools.cycle(self._config.endpoints):
            self.pulse.expect(connecting_s)
            try:
                await self._serve(endpoint)
            except* UplinkError as errors:
                pause_s = 0.0 if self._successor else self._explain(endpoint, first_of(errors))
            check_cancelled()
            self.pulse.expect(pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()
            self._asked.clear()
        raise AssertionError("endpoints repeat for ever")

    def retry(self) -> None:
        """Offer again what was refused for good, and do not wait to connect: somebody says that he mended something."""
        if self._flow is None:
            self._asked.set()
        else:
            self._flow.session.unpark()
            self._flow.wake.set()

    def _explain(self, endpoint: str, error: UplinkError) -> float:
        """Count and tell why a connection ended; how long to wait for the next."""
        lived_s = 0.0 if self._online_since_s is None else time.monotonic() - self._online_since_s
        self._online_since_s = None
        self._metrics.reconnects.labels(error.cause).inc()
        self.trouble = str(error)
        self._tell(endpoint, str(error), logging.ERROR if isinstance(error, SessionTakenOverError) else logging.WARNING)
        return self._backoff.pause_s(error, lived_s)

    async def _serve(self, endpoint: str) -> None:
        """Live through one connection; ends by an error or by cancellation."""
        async with contextlib.AsyncExitStack() as stack:
            if self._successor is None:
                self._renewed.clear()
                connection = await stack.enter_async_context(self._connection(endpoint))
            else:
                successor, self._successor = self._successor, None
                connection = await successor
                stack.push_async_exit(connection)
            # By name: RabbitMQ has nothing retained for a wildcard.
            await connection.subscribe(f"{self._topics}/down/receipt", f"{self._topics}/down/keys")
            await self._announce(connection, "online", self._config.ack_timeout_s)
            self._set_online(connection.endpoint)
            flow = self._flow = _Flow(self._config, connection, self._live_after())
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen(connection, flow))
                    group.create_task(self._watch(flow))
                    group.create_task(self._succeed(connection.endpoint))
                    await self._send(connection, flow)
            except asyncio.CancelledError:
                with contextlib.suppress(ConnectionLostError):
                    await self._announce(connection, "offline", _FAREWELL_S)
                raise
            finally:
                self.online = False
                self._flow = None
                self._metrics.online.set(0)
                self._metrics.in_flight.set(0)

    def _connection(self, endpoint: str) -> Connection:
        return Connection(
            endpoint,
            client_id=self._gateway_id,
            tls=self._tls,
            keepalive_s=self._config.keepalive_s,
            timeout_s=self._config.connect_timeout_s,
            clean_start=True,
            session_expiry_s=0,
            receive_maximum=_RECEIVE_MAXIMUM,
            will=Will(f"{self._topics}/status", json.dumps({"state": "offline"}).encode()),
        )

    async def _succeed(self, endpoint: str) -> NoReturn:
        """When there is another certificate, connect with it; the broker ends the old connection for the new one.

        Raises `ConnectionLostError` when the new one is up. As long as it cannot be had, the old one lives on; but not
        with a broker whose certificate is revoked: `ServerRevokedError`.
        """
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            self._successor = asyncio.create_task(_entered(self._connection(endpoint)))
            await asyncio.wait({self._successor})
            error = self._successor.exception()
            if error is None:
                raise ConnectionLostError(f"{endpoint}: another connection, with the renewed certificate, is up")
            self._successor = None
            if not isinstance(error, UplinkError) or isinstance(error, ServerRevokedError):
                raise error
            self._tell("succession", f"cannot connect with the renewed certificate, the old one serves: {error}")
            self._renewed.set()
            await asyncio.sleep(self._config.backoff_max_s)

    async def _announce(self, connection: Connection, state: str, timeout_s: float) -> None:
        """Publish this gateway's state, retained, with the certificate that verifies its bundles."""
        status = {
            "state": state,
            "gateway": self._gateway_id,
            "signer_cert": self._signer_certificate,
            "time_ms": time.time_ns() // 1_000_000,
        }
        puback = connection.publish(f"{self._topics}/status", json.dumps(status).encode(), retain=True)
        await asyncio.wait({puback}, timeout=timeout_s)
        if not puback.done():
            raise ConnectionLostError(f"{connection.endpoint}: no acknowledgement of the status within {timeout_s:g} s")
        if puback.result() >= FAILURE:
            self._tell("status", f"{connection.endpoint}: status refused: reason code {puback.result():#x}")

    def _set_online(self, endpoint: str) -> None:
        self.online = True
        self.trouble = None
        self._online_since_s = time.monotonic()
        self._asked.clear()
        self._metrics.online.set(1)
        self._told.clear()
        _log.info("%s: connected", endpoint)

    async def _watch(self, flow: "_Flow") -> None:
        """Wake the sender when something became durable."""
        while True:
            await self._outbox.grown()
            flow.wake.set()

    async def _listen(self, connection: Connection, flow: "_Flow") -> None:
        async for message in connection.messages():
            try:
                if message.topic == f"{self._topics}/down/receipt":
                    self._apply(message.payload, flow.session)
                elif message.topic == f"{self._topics}/down/keys":
                    self._on_key_list(message.payload)
            except ReceiptError as error:
                self._disbelieve(error.cause, str(error), 1)
            message.ack()
            flow.wake.set()

    def _apply(self, data: bytes, session: Session[Stored]) -> None:
        """Let the outbox forget what the receiver has committed."""
        receipt = decode_receipt(data, self.receivers)
        if receipt.gateway != self._gateway_id:
            raise ReceiptError(f"a receipt for {receipt.gateway}")
        applied = self._outbox.apply(receipt)
        self._metrics.receipted.inc(applied.bundles)
        now_s = time.monotonic()
        if applied.mismatched:
            text = f"receipt {receipt.counter} names bundles that this gateway never wrote"
            self._disbelieve("mismatch", text, applied.mismatched)
        else:
            for seconds in session.receipted(applied.covered, now_s):
                self._metrics.receipt_seconds.observe(seconds)
        session.refused(receipt.refused)
        if applied.resend:
            session.restart(now_s)

    def _disbelieve(self, cause: str, text: str, count: int) -> None:
        """Count and tell what came from the cloud and must not be believed; whoever sends much of it fills no log."""
        self._metrics.receipt_errors.labels(cause).inc(count)
        if times := self._throttle.admit((cause,), time.monotonic()):
            _log.error("from the cloud, not believed: %s", text, extra={"cause": cause, "times": times})

    def _live_after(self) -> int | None:
        """Where live begins on a new connection: with the oldest that waits, unless that is more than a window."""
        waiting = self._outbox.unreceipted(-1, self._config.window + 1)
        if len(waiting) > self._config.window:
            return None
        return waiting[0].position - 1 if waiting else self._outbox.newest()

    def _part(self, flow: "_Flow") -> None:
        """Let live bundles that are more than a window behind overtake, from the beginning of a segment on."""
        newest, start = self._outbox.newest(), self._outbox.segment_start()
        if flow.session.behind(newest) <= self._config.window:
            return
        if newest - start < self._config.window:
            flow.session.live_from(start)
        elif flow.crowded != start:
            flow.crowded = start
            self.on_backlog()

    def _offer(self, lane: Lane, after: int, limit: int) -> list[Stored]:
        return self._outbox.unreceipted(after, limit, lane)

    async def _send(self, connection: Connection, flow: "_Flow") -> None:
        """Publish whatever the session lets out, as long as the connection lives."""
        session = flow.session
        while True:
            now_s = time.monotonic()
            self._take_acks(flow, now_s)
            if session.check(now_s):
                self._tell("overdue", "receipts are overdue; those bundles are sent again beside newer ones")
            self._part(flow)
            for stored in session.take(self._offer, now_s):
                self._publish(connection, stored, flow)
            self.pulse.expect(_IDLE_S)
            self._metrics.in_flight.set(session.in_flight)
            self._metrics.parked.set(len(session.parked))
            if session.parked:
                cause = next(reversed(session.parked.values()))
                text = f"bundles are refused for good, and kept; reload the service when that is mended: {cause}"
                self._tell("parked", text, logging.ERROR)
            await flow.pause(now_s)

    def _publish(self, connection: Connection, stored: Stored, flow: "_Flow") -> None:
        try:
            data = self._outbox.load(stored)
        except OutboxDamagedError as error:
            flow.session.withdraw(stored.position, error.cause)
            return
        puback = connection.publish(f"{self._topics}/up/data", data)
        puback.add_done_callback(partial(flow.on_puback, stored.position))
        self._metrics.published.inc()

    def _take_acks(self, flow: "_Flow", now_s: float) -> None:
        while flow.acks:
            position, puback = flow.acks.popleft()
            code = puback.result()
            self._metrics.puback_seconds.observe(flow.session.acknowledged(position, code, now_s))
            if code < FAILURE:
                self._metrics.acknowledged.inc()

    def _tell(self, subject: str, text: str, level: int = logging.WARNING) -> None:
        """Say it once per change."""
        if self._told.get(subject) != text:
            self._told[subject] = text
            _log.log(level, "%s", text)


class _Flow:
    """One connection's session, and what wakes its sender."""

    def __init__(self, config: UplinkSection, connection: Connection, live_after: int | None) -> None:
        self.session: Session[Stored] = Session(
            window=config.window,
            backlog_share=config.backlog_share,
            live_after=live_after,
            receive_maximum=connection.limits.receive_maximum,
            maximum_packet_size=connection.limits.maximum_packet_size,
            ack_timeout_s=config.ack_timeout_s,
            receipt_timeout_s=config.receipt_timeout_s,
        )
        self.crowded = -1
        """Start of the segment that held too much for live bundles to begin with it."""
        self.wake = asyncio.Event()
        self.acks: deque[_Ack] = deque()

    def on_puback(self, position: int, puback: asyncio.Future[int]) -> None:
        if not puback.cancelled():
            self.acks.append((position, puback))
            self.wake.set()

    async def pause(self, now_s: float) -> None:
        """Sleep until something happened or the session's deadline is there, and never for long."""
        deadline_s = self.session.deadline_s
        try:
            async with asyncio.timeout(_IDLE_S if deadline_s is None else min(max(0.0, deadline_s - now_s), _IDLE_S)):
                await self.wake.wait()
        except TimeoutError:
            return
        self.wake.clear()


async def _entered(connection: Connection) -> Connection:
    return await connection.__aenter__()
