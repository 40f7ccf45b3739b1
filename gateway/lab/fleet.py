"""Simulated gateways: real keys, chains and seals, made beforehand, so that whoever sends is not the limit."""

import asyncio
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.envelope.keys import Ed25519Signer, Recipient, Signer
from gateway.envelope.seal import ChainWriter
from gateway.errors import ConnectionLostError
from gateway.health.metrics import GLUCOSE
from gateway.model import Batch, Record
from gateway.receiver.plan import Message
from gateway.uplink.mqtt import Connection

_WINDOW = 200
"""Publishes that wait for their acknowledgement at once; mosquitto as shipped allows 256 a client."""
_PUBACK_S = 10.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What each bundle holds."""

    streams: int
    readings: int
    """Of each stream."""


class SimulatedGateway:
    """One gateway and its chain; without a signer of its own, its key follows from its name."""

    def __init__(self, name: str, recipient: Recipient, signer: Signer | None = None) -> None:
        self.name = name
        self.signer = signer or Ed25519Signer(Ed25519PrivateKey.from_private_bytes(_digest(name)))
        self._bundles = 0
        self._writer = ChainWriter(
            gateway=name,
            chain=os.urandom(16),
            signer=self.signer,
            recipients=[recipient],
            predecessor=None,
            random=os.urandom,
        )

    def seal(self, shape: Shape, *, now_ms: int) -> list[Message]:
        """What one tick gives: one bundle, or as many as it takes."""
        self._bundles += 1
        records = tuple(
            Record("F0:00:00:00:00:01", GLUCOSE, 100 + each, 0, now_ms + 1000 * self._bundles + each)
            for each in range(shape.readings)
        )
        rest: Sequence[Batch] = [Batch(_digest(f"{self.name}/{each}")[:16], records) for each in range(shape.streams)]
        sealed = []
        while rest:
            bundle, rest = self._writer.seal(rest, now_ms=now_ms)
            sealed.append(Message(self.name, bundle.data))
        return sealed


def register(registry: Path, gateways: Iterable[SimulatedGateway]) -> None:
    """Add the signers of simulated gateways to a registry."""
    content = json.loads(registry.read_bytes())
    content["signers"] += [
        {"kid": each.signer.kid.hex(), "gateway": each.name, "alg": each.signer.alg, "public": each.signer.public.hex()}
        for each in gateways
    ]
    registry.write_text(json.dumps(content), encoding="utf-8")


def ticks(gateways: Sequence[SimulatedGateway], shape: Shape, count: int, *, now_ms: int) -> Iterator[Message]:
    """What all gateways send in `count` ticks, tick by tick as it would arrive."""
    for _ in range(count):
        for each in gateways:
            yield from each.seal(shape, now_ms=now_ms)


async def publish(
    connection: Callable[[str], Connection],
    messages: Iterable[Message],
    acknowledged: Callable[[Message], None] = lambda _: None,
) -> None:
    """Publish in order, a window at a time, each on its gateway's connection, until the broker has acknowledged all.

    Raises `UplinkError` when a connection ends, or an acknowledgement does not come.
    """
    waiting: deque[tuple[Message, asyncio.Future[int]]] = deque()

    async def settle(left: int) -> None:
        while len(waiting) > left:
            message, puback = waiting[0]
            try:
                async with asyncio.timeout(_PUBACK_S):
                    await puback
            except TimeoutError:
                raise ConnectionLostError("the broker does not acknowledge") from None
            waiting.popleft()
            acknowledged(message)

    try:
        for each in messages:
            await settle(_WINDOW - 1)
            waiting.append((each, connection(each.gateway).publish(f"v1/gw/{each.gateway}/up/data", each.payload)))
        await settle(0)
    finally:
        for _, puback in waiting:
            puback.cancel()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
