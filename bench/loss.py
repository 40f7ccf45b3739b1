"""Killed again and again during an outage: what was accepted and never arrived.

Twenty times SIGKILL at a random moment while 1,000 readings/s come in and the broker is away; then it comes back and
everything drains. Accepted is what was fdatasynced, and for the peers what their own interface said it had:
ThingsBoard's SQLite store returned from `put`, a local mosquitto with persistence and a bridge sent a PUBACK.
In the air is what was handed in and not accepted when the kill came: here up to one tick, which is 2 s while offline.
"""

import asyncio
import getpass
import random
import sqlite3
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiomqtt

from bench import _rig, _thingsboard
from bench._measure import spread
from bench._thingsboard import Cloud
from gateway.errors import ConfigError, GatewayError
from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import Site, free_port

_KILLS = 20
_LIVES_S = (2.5, 4.5)
_PER_S = 1_000
_TURNS_PER_S = 50
_SETTLED_S = 2.0


def run() -> dict[str, Any]:
    """Measure; mosquitto has to be installed."""
    counts = {
        "gateway": asyncio.run(_ours()),
        "ThingsBoard, SQLite": asyncio.run(_thingsboard_store()),
        "mosquitto bridge": asyncio.run(_bridge()),
    }
    results = {}
    for name, (accepted, lost, in_air) in counts.items():
        results[f"{name}, accepted"] = spread([accepted], "readings")
        results[f"{name}, accepted and lost"] = spread([lost], "readings")
        results[f"{name}, in the air"] = spread([in_air], "readings")
    return {"results": results, "ratios": {}}


async def _ours() -> tuple[int, int, int]:
    """Readings accepted, of those lost, and in the air."""
    accepted: set[int] = set()
    in_air = 0
    with _rig.place() as root:
        site = _rig.lay_out(root)
        log = site.logs / "gateway.log"
        first = 0
        for _ in range(_KILLS):
            child = await Child.serve("gateway", *_source(site, first), logs=site.logs)
            await asyncio.sleep(random.uniform(*_LIVES_S))
            await child.kill()
            handed, durable = _told(log.read_text())
            accepted.update(range(first, durable + 1))
            in_air += handed - max(durable, first - 1)
            first = handed + 1
            log.unlink()
        async with _rig.broker(site), _rig.receiver(site):
            with _rig.opened(site) as served:
                async with _rig.sending(served, ticking=True):
                    await _rig.until_receipted(served, 300)
        with sqlite3.connect(site.receiver_state / "receiver.db") as database:
            stored = {number for (number,) in database.execute("SELECT sequence FROM reading_rows")}
        database.close()
    return len(accepted), len(accepted - stored), in_air


def _source(site: Site, first: int) -> tuple[str, ...]:
    wearables = _PER_S // _TURNS_PER_S
    return (
        "bench._source",
        str(site.gateway_config),
        str(wearables),
        str(_TURNS_PER_S),
        "--told",
        "--first",
        str(first),
    )


def _told(log: str) -> tuple[int, int]:
    """Highest number handed in, and highest durable, as a killed process last said."""
    lines = [line.split() for line in log.splitlines(keepends=True) if line.endswith("\n")]
    pairs = [(int(line[0]), int(line[1])) for line in lines if len(line) == 2 and line[0].lstrip("-").isdecimal()]
    if not pairs:
        raise GatewayError("a gateway was killed before it took anything")
    return pairs[-1]


async def _thingsboard_store() -> tuple[int, int, int]:
    """As `_ours`. Its connectors start once it has been connected, so the broker goes away after that, each time."""
    accepted: set[int] = set()
    arrived: set[int] = set()
    first = in_air = 0
    with _rig.place() as root:
        for _ in range(_KILLS):
            async with AsyncExitStack() as stack:
                async with _thingsboard.plain_broker(root) as port, _thingsboard.observed(port) as cloud:
                    running = _thingsboard.running(root / "peer", port, cloud, "--count")
                    peer = await stack.enter_async_context(running)
                    await _settled(cloud)
                arrived |= cloud.numbers
                handed, put = await _feed(peer, first)
                accepted.update(range(first, first + put))
                in_air += handed - put
                first += handed
        async with (
            _thingsboard.plain_broker(root) as port,
            _thingsboard.observed(port) as cloud,
            _thingsboard.running(root / "peer", port, cloud, "--count"),
        ):
            await _settled(cloud)
            arrived |= cloud.numbers
    return len(accepted), len(accepted - arrived), in_air


async def _feed(peer: _thingsboard.ThingsBoard, first: int) -> tuple[int, int]:
    """Hand in for a while, then kill; how many were handed in, and how many its store had taken."""
    put = 0

    async def listen() -> None:
        nonlocal put
        while line := await peer.line():
            put = int(line.removeprefix("put "))

    listening_task = asyncio.create_task(listen())
    each = _PER_S // _TURNS_PER_S
    turns = round(random.uniform(*_LIVES_S) * _TURNS_PER_S)
    for turn in range(turns):
        peer.push(1, each, first + turn * each)
        await asyncio.sleep(1 / _TURNS_PER_S)
    await peer.kill()
    await listening_task
    return turns * each, put


async def _settled(cloud: Cloud) -> None:
    """Wait until nothing has arrived for a while."""
    before = -1
    while before != cloud.readings:
        before = cloud.readings
        await asyncio.sleep(_SETTLED_S)


async def _bridge() -> tuple[int, int, int]:
    """As `_ours`."""
    program = mosquitto.program()
    if program is None:
        raise ConfigError("mosquitto is not installed; on Debian: apt install mosquitto")
    accepted: set[int] = set()
    first = in_air = 0
    with _rig.place() as root:
        port, remote = free_port(), free_port()
        command = (program, "-c", str(_bridge_configuration(root, port, remote)))
        for _ in range(_KILLS):
            local = await Child.run("local", *command, logs=root)
            await _rig.listening(port)
            acknowledged, handed = await _publish(local, port, first)
            accepted |= acknowledged
            in_air += handed - len(acknowledged)
            first += handed
        arrived: set[int] = set()
        async with _thingsboard.plain_broker(root, port=remote):
            observing = asyncio.create_task(_observe(remote, arrived))
            await asyncio.sleep(1)
            local = await Child.run("local", *command, logs=root)
            before = -1
            while before != len(arrived):
                before = len(arrived)
                await asyncio.sleep(_SETTLED_S)
            await local.kill()
            observing.cancel()
    return len(accepted), len(accepted - arrived), in_air


def _bridge_configuration(root: Path, port: int, remote: int) -> Path:
    state = root / "local"
    state.mkdir()
    lines = (
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        f"user {getpass.getuser()}",
        "max_queued_messages 0",
        "persistence true",
        f"persistence_location {state.absolute()}/",
        "autosave_interval 1",
        "connection cloud",
        f"address 127.0.0.1:{remote}",
        "topic bench/# out 1",
        "cleansession false",
        "restart_timeout 1",
    )
    configuration = root / "local.conf"
    configuration.write_text("\n".join(lines) + "\n")
    return configuration


async def _publish(local: Child, port: int, first: int) -> tuple[set[int], int]:
    """Publish with QoS 1 until the local broker is killed; what it acknowledged, and how many were handed to it."""
    acknowledged: set[int] = set()
    number = first

    async def publish() -> None:
        nonlocal number
        async with aiomqtt.Client("127.0.0.1", port) as client:
            while True:
                number += 1
                await client.publish("bench/reading", str(number - 1), qos=1)
                acknowledged.add(number - 1)
                await asyncio.sleep(1 / _PER_S)

    publishing = asyncio.create_task(publish())
    await asyncio.sleep(random.uniform(*_LIVES_S))
    await local.kill()
    with suppress(aiomqtt.MqttError):
        await publishing
    return acknowledged, number - first


async def _observe(port: int, arrived: set[int]) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("bench/#", qos=1)
        async for message in client.messages:
            arrived.add(int(bytes(message.payload)))
