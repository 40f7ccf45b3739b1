"""The two brokers that a lab's site may have, each a process, and what can be done to them."""

import asyncio
import signal
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, suppress
from typing import ClassVar

from gateway.errors import GatewayError
from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import Site

_LISTENS_S = 30.0


class SiteBroker(ABC):
    """A site's broker."""

    name: ClassVar[str]
    persistent: ClassVar[bool]
    """It keeps sessions and messages over a stop."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @abstractmethod
    async def start(self) -> Child:
        """Start it and wait until it listens. Raises `GatewayError`."""

    @abstractmethod
    def deny_uplink(self, child: Child, *, deny: bool) -> None:
        """Deny gateways the topics on which they send, or allow them again."""

    @abstractmethod
    def forget(self) -> int:
        """Make it forget, while it is down, what it knew; returns how many bytes lay on the disk."""


class EmbeddedBroker(SiteBroker):
    """The demo's: it speaks MQTT 3.1.1, and all that it knows is in its memory."""

    name = "the embedded broker"
    persistent = False

    async def start(self) -> Child:
        """Start it and wait until it says that it listens."""
        arguments = ("--pki", str(self._site.pki), "--port", str(self._site.broker_port))
        return await Child.start("broker", "gateway.lab.broker", *arguments, logs=self._site.logs)

    def deny_uplink(self, child: Child, *, deny: bool) -> None:
        """What is denied it acknowledges and forgets."""
        child.signal(signal.SIGUSR1 if deny else signal.SIGUSR2)

    def forget(self) -> int:
        """It has forgotten already."""
        return 0


class Mosquitto(SiteBroker):
    """Mosquitto as shipped; raises `ConfigError` at its start if it is not installed."""

    name = "mosquitto"
    persistent = True

    async def start(self, *, maximum_packet_bytes: int = 262_144) -> Child:
        """Start it and wait until it listens."""
        state = self._site.root / "broker"
        state.mkdir(mode=0o700, exist_ok=True)
        port = self._site.broker_port
        command = mosquitto.command(self._site.pki, state, port, maximum_packet_bytes=maximum_packet_bytes)
        child = await Child.run("broker", *command, logs=self._site.logs)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(child.kill)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LISTENS_S):
                    while child.running:
                        if await _listens(port):
                            undo.pop_all()
                            return child
                        await asyncio.sleep(0.05)
            raise GatewayError(f"mosquitto does not listen: {child.last_words()}")

    def deny_uplink(self, child: Child, *, deny: bool) -> None:
        """What is denied it refuses with a reason code."""
        mosquitto.write_acl(self._site.root / "broker" / "acl", uplink=not deny)
        child.signal(signal.SIGHUP)

    def forget(self) -> int:
        """Delete its database: sessions, and what waits in them."""
        database = self._site.root / "broker" / "mosquitto.db"
        size = database.stat().st_size if database.exists() else 0
        database.unlink(missing_ok=True)
        return size


async def _listens(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


def best(site: Site) -> SiteBroker:
    """Mosquitto where it is installed, else the embedded broker."""
    return Mosquitto(site) if mosquitto.program() else EmbeddedBroker(site)
