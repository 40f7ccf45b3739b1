"""A site from one command to a gateway whose records are stored, with mosquitto; and what a revocation does to it."""

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lab import mosquitto
from gateway.lab.process import Child
from gateway.lab.site import free_port

GATEWAY = "gw-001"
DEADLINE_S = 30.0


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


@dataclass
class Running:
    """A site with broker, CA and receiver, and the gateway's configuration to be."""

    root: Path
    enrol: list[str]
    children: dict[str, Child]

    @property
    def config(self) -> Path:
        return self.root.parent / "gateway.toml"

    def events(self) -> list[str]:
        path = f"file:{self.root / 'receiver' / 'state' / 'receiver.db'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as database:
            return [code for (code,) in database.execute("SELECT code FROM events ORDER BY time_ms")]


async def command(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that mosquitto's own account can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def site(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    program = mosquitto.program()
    if program is None:
        pytest.skip("mosquitto is not installed; on Debian: apt install mosquitto")
    monkeypatch.chdir(place)
    logs = Path("logs")
    logs.mkdir()
    root = place / "site"
    ports = ("--broker-port", str(free_port()), "--enrolment-port", str(free_port()))
    status, said = await command(
        "gateway.cli.receiver", "init", str(root), "--host", "localhost", *ports, "--gateway", GATEWAY, "--json"
    )
    assert status == 0, said
    made = json.loads(said.splitlines()[0])
    with (root / "receiver.toml").open("a") as file:
        file.write('[metrics]\nlisten = "off"\n')
    async with AsyncExitStack() as stack:
        children = {}
        broker = await Child.run("broker", program, *made["run"][0].split()[1:], logs=logs)
        stack.push_async_callback(broker.stop)
        for name, line in zip(("ca", "receiver"), made["run"][1:], strict=True):
            children[name] = await Child.serve(name, "gateway.cli.receiver", *line.split()[1:], logs=logs)
            stack.push_async_callback(children[name].stop)
        yield Running(root, made["enrol"].split()[1:], children | {"broker": broker})


async def test_from_one_command_to_stored_records_and_to_a_revocation(site: Running) -> None:
    status, said = await command(
        "gateway.cli.gateway", *site.enrol, "--config", str(site.config), "--state-dir", str(site.config.parent / "gw")
    )
    assert status == 0, said
    text = site.config.read_text().replace('# adapter = "hci0"', 'adapter = "none"')
    site.config.write_text(text.replace('# listen = "127.0.0.1:9464"', 'listen = "off"'))
    run = ("gateway.cli.gateway", "run", "--config", str(site.config))
    gateway = await Child.serve("gateway", *run, logs=Path("logs"))
    try:
        await until(lambda: "start" in site.events(), "no record arrives")
        status, said = await command("gateway.cli.receiver", "keys", "rotate", str(site.root))
        assert status == 0, said
        await until(lambda: "key-list" in site.events(), "the gateway does not take another key list")
        status, said = await command("gateway.cli.gateway", "identity", "rotate-signer", "--config", str(site.config))
        assert status == 0, said
        await gateway.stop()
        gateway = await Child.serve("gateway", *run, logs=Path("logs"))
        await until(lambda: site.events().count("start") == 2, "the next signer does not count")
        assert len(json.loads((site.root / "receiver" / "registry.json").read_text())["signers"]) == 2
        stored = len(site.events())
        status, said = await command("gateway.cli.receiver", "ca", "revoke", str(site.root), GATEWAY)
        assert status == 0, said
        assert "may live on" not in said
        log = Path("logs") / "gateway.log"
        await until(lambda: "revoked" in log.read_text() or "refused" in log.read_text(), "its connection lives on")
        assert len(site.events()) == stored
    finally:
        await gateway.stop()
    again = await Child.serve("again", *run, logs=Path("logs"))
    try:
        log = Path("logs") / "again.log"
        await until(lambda: "TLS refused" in log.read_text() or "lost" in log.read_text(), "it is not refused")
        assert len(site.events()) == stored
        status, said = await command("gateway.cli.gateway", *site.enrol, "--config", str(site.config))
        assert status == 1, "an old code lets nobody in again"
        assert "not known" in said
    finally:
        await again.stop()
