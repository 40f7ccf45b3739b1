"""ThingsBoard's gateway beside ours: its own process and environment, plain MQTT to the same kind of broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt

from bench._peers import PROGRAMS, interpreter
from bench._rig import listening, now_s
from gateway.errors import ConfigError
from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import free_port

_LIMITS = json.dumps({"maxPayloadSize": 65536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}})
_TELEMETRY = "v1/gateway/telemetry"
_REQUESTS = "v1/devices/me/rpc/request/"


@asynccontextmanager
async def plain_broker(root: Path, *, port: int | None = None) -> AsyncIterator[int]:
    """Mosquitto without TLS on a loopback port, with no bound on what waits."""
    program = mosquitto.program()
    if program is None:
        raise ConfigError("mosquitto is not installed; on Debian: apt install mosquitto")
    port = port or free_port()
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0"]
    configuration = root / f"plain-{port}.conf"
    configuration.write_text("\n".join(lines) + "\n")
    child = await Child.run(f"plain-{port}", program, "-c", str(configuration), logs=root)
    try:
        await listening(port)
        yield port
    finally:
        await child.stop()


class Cloud:
    """What arrives at the broker from the peer, counted; also the answer to the one question that it asks there."""

    def __init__(self) -> None:
        self.readings = 0
        self.bytes = 0
        self.last_s = 0.0
        self.numbers: set[int] = set()

    async def run(self, port: int, subscribed: asyncio.Event) -> None:
        """Listen until cancelled."""
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe([(_TELEMETRY, 1), (_REQUESTS + "+", 1)])
            subscribed.set()
            async for message in client.messages:
                topic, payload = str(message.topic), bytes(message.payload)
                if topic.startswith(_REQUESTS):
                    await client.publish(topic.replace("request", "response"), _LIMITS)
                else:
                    self._count(payload)

    def _count(self, payload: bytes) -> None:
        self.bytes += len(payload)
        for entries in json.loads(payload).values():
            self.readings += len(entries)
            self.numbers.update(entry["values"]["sequence"] for entry in entries)
        self.last_s = now_s()


class ThingsBoard:
    """The running peer."""

    def __init__(self, process: asyncio.subprocess.Process, cloud: Cloud) -> None:
        self._process = process
        self.cloud = cloud

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def push(self, streams: int, count: int, first: int) -> None:
        """Give `count` readings from number `first` on to each of `streams` devices."""
        assert self._process.stdin
        self._process.stdin.write(f"{streams} {count} {first}\n".encode())

    async def line(self) -> str:
        """What it says next."""
        assert self._process.stdout
        return (await self._process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def running(root: Path, port: int, cloud: Cloud, *arguments: str) -> AsyncIterator[ThingsBoard]:
    """The peer, connected to the broker at `port`; its store lies in `root` and stays there."""
    root.mkdir(exist_ok=True)
    with (root / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(interpreter("thingsboard")), str(PROGRAMS / "thingsboard.py"), str(root), str(port), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    peer = ThingsBoard(process, cloud)
    try:
        async with asyncio.timeout(60):
            while (line := await peer.line()) != "ready":
                if not line and process.stdout and process.stdout.at_eof():
                    raise ConfigError(f"the peer ended: {(root / 'log').read_text()[-2000:]}")
        yield peer
    finally:
        if process.returncode is None:
            await peer.kill()


@asynccontextmanager
async def observed(port: int) -> AsyncIterator[Cloud]:
    """Count what arrives at the broker."""
    cloud, subscribed = Cloud(), asyncio.Event()
    listening = asyncio.create_task(cloud.run(port, subscribed))
    await subscribed.wait()
    try:
        yield cloud
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
